"""Upstreams that speak OpenAI's API."""
