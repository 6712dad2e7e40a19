"""One module a client-facing dialect."""
