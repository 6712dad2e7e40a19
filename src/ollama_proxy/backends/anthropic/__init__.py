"""Upstreams that speak Anthropic's API."""
