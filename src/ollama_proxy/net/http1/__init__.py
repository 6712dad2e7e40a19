"""HTTP/1.1 on asyncio protocols: a strict server, and a client pool that costs O(1) a request."""
