"""Vector stores: files that are read, cut into passages, made into vectors, and found again."""
