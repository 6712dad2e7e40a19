"""Kinds of places for vectors, a file a kind."""
