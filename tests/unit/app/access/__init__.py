"""Tests of `ollama_proxy.app.access`."""
