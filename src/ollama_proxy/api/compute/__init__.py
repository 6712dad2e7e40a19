"""gRPC `compute.v1`."""
