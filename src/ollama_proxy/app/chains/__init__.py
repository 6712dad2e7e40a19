"""Pipelines over the proxy's own ways: each stage is a request like any other."""
