"""Arguments that ask for serving and nothing else are read without the library; whatever else goes to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ollama_proxy.cli.start import ServingFlags, normalise_flags, read_flags
from tests.support.processes import ROOT


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ([], ServingFlags()),
        (["--config", "a.yaml"], ServingFlags(config="a.yaml")),
        (["--config=a=b.yaml", "--http-port", "0"], ServingFlags(config="a=b.yaml", http_port=0)),
        (["-config", "a.yaml", "-grpc-port=65535"], ServingFlags(config="a.yaml", grpc_port=65535)),
        (["--host", "::1", "--log-level", "debug"], ServingFlags(host="::1", log_level="debug")),
        (["--take-over", "--validate-config"], ServingFlags(take_over=True, validate_config=True)),
    ],
)
def test_serving_is_understood(arguments: list[str], flags: ServingFlags) -> None:
    assert read_flags(normalise_flags(arguments)) == flags


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["-version"],
        ["check", "a.yaml"],
        ["--config", "a.yaml", "keys", "list"],
        ["--config"],
        ["--http-port", "65536"],
        ["--http-port", "-1"],
        ["--http-port", "\u0661"],
        ["--take-over=yes"],
        ["--verbose"],
        ["--"],
        [""],
    ],
)
def test_everything_else_is_left_to_the_library(arguments: list[str]) -> None:
    assert read_flags(normalise_flags(arguments)) is None


def test_an_ordinary_start_does_not_load_the_library() -> None:
    script = (
        "import sys; sys.argv = ['ollama-proxy', '--validate-config', '--config', 'config/config.yaml']\n"
        "from ollama_proxy.cli.start import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'typer' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0 False False"
