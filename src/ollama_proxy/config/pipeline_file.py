"""The file of pipelines: read, typed and checked, each fault with its line."""

from __future__ import annotations

from pathlib import Path

from ollama_proxy.config.document import read_document, read_text
from ollama_proxy.config.problems import ConfigError, Problem
from ollama_proxy.config.schema import Pipelines
from ollama_proxy.pipelines.check import read_pipelines
from ollama_proxy.pipelines.stages import Pipeline

_MOST_PROBLEMS = 10


def load_pipelines(config: Pipelines) -> tuple[Pipeline, ...]:
    """The configured pipelines; none while they are switched off. Raises `ConfigError`."""
    if not config.enabled:
        return ()
    path = Path(config.config_file).expanduser()
    data, lines = read_document(read_text(path), str(path))
    pipelines, faults = read_pipelines(data)
    if faults:
        problems = [Problem(where, told, lines.get(where, 0)) for where, told in faults[:_MOST_PROBLEMS]]
        raise ConfigError(problems, str(path))
    return pipelines


def check_pipelines(config: Pipelines) -> list[Problem]:
    """What is wrong, as problems of the configuration that names the file."""
    if not config.enabled:
        return []
    if not config.config_file:
        return [Problem("pipelines.config_file", "is needed when pipelines.enabled is true")]
    try:
        load_pipelines(config)
    except ConfigError as error:
        return [Problem("pipelines.config_file", line) for line in str(error).splitlines()]
    return []
