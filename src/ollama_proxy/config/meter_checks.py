"""What types cannot say about meters: which keys belong to which type, and who is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ollama_proxy.config.problems import Problem
from ollama_proxy.config.schema import Config, MeterSource

#: Keys that only one or two types read.
_OWNERS = {
    "url": ("http",),
    "preset": ("http",),
    "pointer": ("http",),
    "token_env": ("http",),
    "unit": ("http", "command"),
    "emulated": ("http", "command"),
    "command": ("command",),
    "devices": ("powercap", "hwmon", "nvml", "npu", "supply"),
}


def check_meters(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem of the section `meters`."""
    problems: list[Problem] = []
    known = {backend.id for backend in config.backends}
    seen: set[str] = set()
    for index, source in enumerate(config.meters.sources):
        path = f"meters.sources[{index}]"
        if source.id in seen:
            problems.append(Problem(f"{path}.id", f"{source.id} is given twice"))
        seen.add(source.id)
        problems += [
            Problem(f"{path}.backends", f"no backend is called {name}; there is {', '.join(sorted(known)) or 'none'}")
            for name in source.backends
            if name not in known
        ]
        problems += [
            Problem(f"{path}.{key}", f"is not read by type {source.type}; it is for {' and '.join(owners)}")
            for key, owners in _OWNERS.items()
            if getattr(source, key) and source.type not in owners
        ]
        if source.type == "http":
            problems += _check_http(source, path, environ)
        if source.type == "command":
            problems += _check_command(source, path)
    return problems


def _check_http(source: MeterSource, path: str, environ: Mapping[str, str]) -> list[Problem]:
    problems = []
    try:
        parts = urlsplit(source.url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        problems.append(Problem(f"{path}.url", "must be an address such as http://192.168.1.20"))
    elif "@" in parts.netloc:
        problems.append(Problem(f"{path}.url", "no credentials in an address; name a variable with token_env"))
    if source.preset == "home-assistant" and good and not parts.path.strip("/"):
        problems.append(
            Problem(f"{path}.url", "must lead to the sensor, as in http://host:8123/api/states/sensor.plug")
        )
    if source.preset and (source.pointer or source.unit):
        problems.append(Problem(f"{path}.preset", "knows pointer and unit itself; leave one or the other off"))
    if not source.preset and not (source.pointer and source.unit):
        problems.append(Problem(path, "type http needs a preset, or pointer and unit"))
    if source.pointer and not source.pointer.startswith("/"):
        problems.append(Problem(f"{path}.pointer", "must begin with a slash, as in /power"))
    if source.token_env and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", source.token_env):
        message = "must be the name of a variable in capitals, such as HASS_TOKEN, never the token itself"
        problems.append(Problem(f"{path}.token_env", message))
    elif source.token_env:
        problems += _check_token(source.token_env, path, environ)
    return problems


def _check_token(name: str, path: str, environ: Mapping[str, str]) -> list[Problem]:
    token = environ.get(name, "").strip()
    if not token:
        return [Problem(f"{path}.token_env", f"the variable {name} is not set")]
    # Told without the token itself: a library that refuses it later would put it into the log.
    if not re.fullmatch(r"[!-~]+", token):
        return [Problem(f"{path}.token_env", f"what {name} holds cannot stand in a header: printable ASCII, no blanks")]
    return []


def _check_command(source: MeterSource, path: str) -> list[Problem]:
    if source.command and source.command[0] and source.unit:
        return []
    return [Problem(path, "type command needs command (a list) and unit")]
