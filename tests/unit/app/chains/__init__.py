"""Tests of `ollama_proxy.app.chains`."""
