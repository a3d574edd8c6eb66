"""HTTP, WebSocket and SSE: thin routers over streets, database and analytics."""

from headway.api.app import create_app

__all__ = ["create_app"]
