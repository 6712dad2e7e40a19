"""Bytes: HTTP server and client pool, HTTP/2 and gRPC, event framing, ASGI bridge."""
