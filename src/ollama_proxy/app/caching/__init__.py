"""Kept answers on a request's way: who may have one, of whom, and the books of it."""
