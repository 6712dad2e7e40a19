"""`ollama-proxy check [FILE]`: is this configuration good?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def check(
    file: Annotated[str | None, typer.Argument(help="The file; without it, the one a start would use.")] = None,
) -> None:
    """Check a configuration and say what is wrong with it, line by line."""
    from ollama_proxy.config.load import find_config, load_config
    from ollama_proxy.config.problems import ConfigError

    path = find_config(file, os.environ, Path.cwd())
    try:
        config = load_config(path, os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    enabled = [backend.id for backend in config.backends if backend.enabled]
    typer.echo(f"{path}: good; backends: {', '.join(enabled) or 'none'}")
