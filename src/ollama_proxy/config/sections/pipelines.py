"""Chains of stages, which have a file of their own."""

from __future__ import annotations

from ollama_proxy.config.sections.section import Section


class Pipelines(Section, frozen=True):
    enabled: bool = False
    config_file: str = ""
