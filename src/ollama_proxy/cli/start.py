"""The entry point. Serving is what starts most often and is waited for, and the command line's library takes a quarter
of a second to load: arguments that plainly ask to serve are read here, everything else is left to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

#: Long flags that may be written with one dash, as the program that this one replaces had them.
_VALUES = ("config", "host", "grpc-port", "http-port", "log-level")
_SWITCHES = ("take-over", "validate-config", "version", "help")
_MAX_PORT = 65535


class ServingFlags(msgspec.Struct, frozen=True):
    """What the command line may say of serving; None where it does not."""

    config: str | None = None
    host: str | None = None
    grpc_port: int | None = None
    http_port: int | None = None
    log_level: str | None = None
    take_over: bool = False
    validate_config: bool = False


def main() -> None:
    """Serve, or run a subcommand; ends the process."""
    arguments = normalise_flags(sys.argv[1:])
    flags = read_flags(arguments)
    if flags is not None:
        sys.exit(run(flags))
    from ollama_proxy.cli.main import app

    app(args=arguments, prog_name="ollama-proxy")


def normalise_flags(arguments: Sequence[str]) -> list[str]:
    """Long flags with one dash become long flags with two."""
    found = []
    for argument in arguments:
        name = argument[1:].partition("=")[0]
        known = argument.startswith("-") and not argument.startswith("--") and name in (*_VALUES, *_SWITCHES)
        found.append("-" + argument if known else argument)
    return found


def read_flags(arguments: Sequence[str]) -> ServingFlags | None:
    """The flags, where nothing but serving is asked for; None for whatever takes more of an understanding, faulty
    arguments included.
    """
    given: dict[str, str | int | bool] = {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument[2:].partition("=")
        field = name.replace("-", "_")
        if not argument.startswith("--"):
            return None
        if name in ("take-over", "validate-config") and not equals:
            given[field] = True
        elif name in _VALUES and (equals or left):
            value = value if equals else left.pop(0)
            if not name.endswith("-port"):
                given[field] = value
            elif value.isascii() and value.isdigit() and int(value) <= _MAX_PORT:
                given[field] = int(value)
            else:
                return None
        else:
            return None
    return msgspec.convert(given, ServingFlags)


def run(flags: ServingFlags) -> int:
    """Read the configuration, then serve until a signal; the exit code."""
    from ollama_proxy.cli import serve
    from ollama_proxy.config.load import Overrides, find_config, load_config
    from ollama_proxy.config.problems import ConfigError

    path = find_config(flags.config, os.environ, Path.cwd()).absolute()
    overrides = Overrides(flags.host, flags.grpc_port, flags.http_port, flags.log_level)
    try:
        loaded = load_config(path, os.environ, overrides)
    except ConfigError as error:
        print(f"ollama-proxy: {error}", file=sys.stderr)
        return 2
    if flags.validate_config:
        print(f"{path}: good")
        return 0
    return serve.serve(loaded, path, lambda: load_config(path, os.environ, overrides), take_over=flags.take_over)
