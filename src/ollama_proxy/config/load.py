"""From a file, the environment and flags to one checked `Config`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from ollama_proxy.config.checks import check_config, endpoint_variable
from ollama_proxy.config.document import Lines, read_document, read_text
from ollama_proxy.config.problems import ConfigError, Problem
from ollama_proxy.config.schema import Backend, Config
from ollama_proxy.config.sections.section import Section

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT_DEFAULT = _PACKAGE.parents[2] / "config" / "config.yaml"
_BUILT_IN_DEFAULT = _PACKAGE / "default.yaml"
_MAX_PROBLEMS = 10


class Overrides(msgspec.Struct, frozen=True):
    """Flags of the command line; None where not given."""

    host: str | None = None
    grpc_port: int | None = None
    http_port: int | None = None
    log_level: str | None = None


def find_config(flag: str | None, environ: Mapping[str, str], folder: Path) -> Path:
    """The file to read: flag, `OLLAMA_PROXY_CONFIG`, `./config/config.yaml`, the checkout's, the built-in one."""
    named = flag or environ.get("OLLAMA_PROXY_CONFIG")
    if named:
        return Path(named)
    for candidate in (folder / "config" / "config.yaml", _CHECKOUT_DEFAULT):
        if candidate.is_file():
            return candidate
    return _BUILT_IN_DEFAULT


def load_config(path: Path, environ: Mapping[str, str], flags: Overrides | None = None) -> Config:
    """Read, type, override and check. Raises `ConfigError` with every problem found, ten at most."""
    config, lines = parse_config(read_text(path), str(path))
    config, origins = override(config, environ, flags or Overrides())
    problems = check_config(config, environ)
    if problems:
        raise ConfigError([_place(one, lines, origins) for one in problems[:_MAX_PROBLEMS]], str(path))
    return config


def _place(problem: Problem, lines: Lines, origins: Mapping[str, str]) -> Problem:
    """Name the variable or flag a value came from, else its line in the file."""
    if problem.where in origins:
        return Problem(origins[problem.where], problem.message)
    return Problem(problem.where, problem.message, lines.get(problem.where, 0))


def parse_config(text: str, source: str) -> tuple[Config, Lines]:
    """Typed configuration and the line of each path. Raises `ConfigError`."""
    data, lines = read_document(text, source)
    if not isinstance(data, dict):
        raise ConfigError([Problem("", "the file must hold keys and values", 1)], source)
    data = _drop_empty(data, Config)
    problems = _unknown_keys(data, Config, "") + _type_faults(data)
    if not problems:
        return msgspec.convert(data, Config), lines
    placed = [Problem(one.where, one.message, lines.get(one.where, 0)) for one in problems[:_MAX_PROBLEMS]]
    raise ConfigError(placed, source)


def _drop_empty(data: Any, kind: Any) -> Any:
    """A section with nothing behind its colon means its defaults."""
    if get_origin(kind) is tuple and isinstance(data, list):
        return [_drop_empty(item, get_args(kind)[0]) for item in data]
    if not (isinstance(kind, type) and issubclass(kind, Section) and isinstance(data, dict)):
        return data
    fields = get_type_hints(kind)
    return {key: _drop_empty(value, fields.get(key)) for key, value in data.items() if value is not None}


def _type_faults(data: dict[str, Any]) -> list[Problem]:
    """The first type fault of each section and of each backend; unknown keys are told elsewhere."""
    found = []
    fields = get_type_hints(Config, include_extras=True)
    for key, value in data.items():
        if key == "backends" and isinstance(value, list):
            parts = [(f"backends[{index}]", item, Backend) for index, item in enumerate(value)]
        else:
            parts = [(key, value, fields[key])] if key in fields else []
        for path, part, kind in parts:
            try:
                msgspec.convert(part, kind)
            except msgspec.ValidationError as error:
                problem = _describe(error, path)
                if "unknown field" not in problem.message:
                    found.append(problem)
    return found


def _unknown_keys(data: Any, kind: Any, path: str) -> list[Problem]:
    """Keys that the schema does not know, each with the nearest one it does."""
    if get_origin(kind) is tuple and isinstance(data, list):
        return [
            problem
            for index, item in enumerate(data)
            for problem in _unknown_keys(item, get_args(kind)[0], f"{path}[{index}]")
        ]
    if get_origin(kind) is dict and isinstance(data, dict):
        return [p for key, item in data.items() for p in _unknown_keys(item, get_args(kind)[1], f"{path}.{key}")]
    if not (isinstance(kind, type) and issubclass(kind, Section) and isinstance(data, dict)):
        return []
    fields = get_type_hints(kind)
    problems = []
    for key, value in data.items():
        inner = f"{path}.{key}" if path else key
        if key in fields:
            problems += _unknown_keys(value, fields[key], inner)
        else:
            problems.append(Problem(inner, "unknown key" + _nearest(key, list(fields))))
    return problems


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"


def _allowed_words(where: str) -> str:
    """The words that a key takes, by its path as msgspec writes it (`backends[0].type`, `auth.api_keys[...].x`)."""
    kind: Any = Config
    for step in re.findall(r"\w+|\[[^]]*\]", where):
        if step.startswith("["):
            arguments = get_args(kind)
            kind = arguments[1] if get_origin(kind) is dict else arguments[0]
        else:
            kind = get_type_hints(kind)[step]
    return ", ".join(str(word) for word in get_args(kind))


def _describe(error: msgspec.ValidationError, path: str = "") -> Problem:
    """msgspec's message taken apart: `Expected `int`, got `str` - at `$.server.http_port``."""
    text, _, place = str(error).partition(" - at `$")
    where = (path + place.rstrip("`")).removeprefix(".")
    if text.startswith("Invalid enum value"):
        value = text.removeprefix("Invalid enum value ")
        return Problem(where, f"{value} is none of {_allowed_words(where)}")
    return Problem(where, text.replace("`", "")[:1].lower() + text.replace("`", "")[1:])


# -- overrides -----------------------------------------------------------------

_VARIABLES = {
    "OLLAMA_PROXY_HOST": ("server", "host"),
    "OLLAMA_PROXY_GRPC_PORT": ("server", "grpc_port"),
    "OLLAMA_PROXY_HTTP_PORT": ("server", "http_port"),
    "OLLAMA_PROXY_LOG_LEVEL": ("monitoring", "log_level"),
    "OLLAMA_PROXY_PROMETHEUS_PORT": ("monitoring", "prometheus_port"),
    "OLLAMA_PROXY_EMBEDDED": ("embedded", "enabled"),
    "OLLAMA_PROXY_ALLOW_PUBLIC_WITHOUT_KEYS": ("server", "allow_public_without_keys"),
}


def apply_overrides(config: Config, environ: Mapping[str, str], flags: Overrides) -> Config:
    """Environment over file, flags over both. Raises `ConfigError` that names the variable or flag."""
    return override(config, environ, flags)[0]


def override(config: Config, environ: Mapping[str, str], flags: Overrides) -> tuple[Config, dict[str, str]]:
    """The same, with the variable or flag that each overridden path came from."""
    data = msgspec.to_builtins(config)
    origins: dict[str, str] = {}
    for variable, (section, key) in _VARIABLES.items():
        if value := environ.get(variable, ""):
            data[section][key] = _as_value(value.lower() if key == "log_level" else value)
            origins[f"{section}.{key}"] = variable
    for index, backend in enumerate(data["backends"]):
        variable = endpoint_variable(backend["id"])
        if value := environ.get(variable, ""):
            backend["endpoint"] = value
            origins[f"backends[{index}].endpoint"] = variable
    given: tuple[tuple[str, str | int | None, str], ...] = (
        ("host", flags.host, "server"),
        ("grpc_port", flags.grpc_port, "server"),
        ("http_port", flags.http_port, "server"),
        ("log_level", flags.log_level, "monitoring"),
    )
    for key, flag, section in given:
        if flag is not None:
            data[section][key] = flag
            origins[f"{section}.{key}"] = "--" + key.replace("_", "-")
    try:
        return msgspec.convert(data, Config), origins
    except msgspec.ValidationError as error:
        problem = _describe(error)
        part, _, name = problem.where.partition(".")
        shown = f" (it is {str(data[part][name])[:40]!r})" if name in data.get(part, {}) else ""
        raise ConfigError([Problem(origins.get(problem.where, problem.where), problem.message + shown)]) from None


def _as_value(value: str) -> str | int | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value
