"""Upstreams that speak Ollama's API."""
