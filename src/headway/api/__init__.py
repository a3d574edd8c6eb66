"""HTTP, WebSocket and SSE: thin routers over streets, database and analytics. `app.create_app` puts
them together; it is not imported here, since commands and streets need the keys alone.
"""
