"""Composition: registry, wiring, dispatch, start and stop."""
