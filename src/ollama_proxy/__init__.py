"""Ollama Compute Proxy: one endpoint in front of every model server you own."""

__version__ = "0.1.0"
