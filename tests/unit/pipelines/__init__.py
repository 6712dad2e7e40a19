"""Tests of `ollama_proxy.pipelines`."""
