"""`/v1/stream/ws`: requests and tokens as JSON messages over one WebSocket."""
