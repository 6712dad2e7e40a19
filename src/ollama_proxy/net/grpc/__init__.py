"""gRPC: calls as plain callbacks, whatever server carries them."""
