"""Tests of `ollama_proxy.app.embeds`."""
