"""One module an upstream kind."""
