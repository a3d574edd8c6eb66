"""HTTP, WebSocket and SSE: thin doors to the engine, the record and its analytics."""

from headway.api.app import create_app

__all__ = ["create_app"]
