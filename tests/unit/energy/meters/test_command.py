"""Commands that print a number, and those that do not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ollama_proxy.domain.metering import MeterOptions
from ollama_proxy.energy.meters.command import CommandFailedError, CommandMeter


def make(script: str, unit: str = "W", **options: Any) -> CommandMeter:
    return CommandMeter(options=MeterOptions(id="own", command=("/bin/sh", "-c", script), unit=unit, **options))


@pytest.mark.parametrize(
    ("printed", "unit", "watts", "joules"),
    [
        ("12.5", "W", 12.5, None),
        ("power: 1.5e3 mW", "mW", 1.5, None),
        ("2", "kWh", None, 7.2e6),
        (".5", "J", None, 0.5),
    ],
)
def test_the_first_number_counts(printed: str, unit: str, watts: float | None, joules: float | None) -> None:
    (reading,) = make(f"echo '{printed}'", unit).read(3.0)
    assert (reading.source, reading.watts, reading.joules, reading.at_s) == ("own", watts, joules, 3.0)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo nothing", "no number"),
        ("true", "no number"),
        ("echo 3; exit 4", "status 4"),
        ("echo -5", "negative"),
        ("echo 1e999", "finite"),
    ],
)
def test_what_is_no_figure_is_told(script: str, words: str) -> None:
    with pytest.raises(CommandFailedError, match=words):
        make(script).read(1.0)


def test_one_that_hangs_ends_with_its_children() -> None:
    import psutil

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(CommandFailedError, match="longer than"):
        make("sleep 60 & sleep 60", timeout_s=0.2).read(1.0)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_one_that_never_stops_talking_costs_little() -> None:
    (reading,) = make("while true; do echo 7; done", timeout_s=20).read(1.0)
    assert reading.watts == 7.0


def test_no_shell_reads_the_arguments() -> None:
    code = "import sys; print(4 if sys.argv[1] == '$HOME; echo 9' else 0)"
    options = MeterOptions(id="own", command=(sys.executable, "-c", code, "$HOME; echo 9"), unit="W", timeout_s=20)
    assert CommandMeter(options=options).read(1.0)[0].watts == 4.0


def test_a_command_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        CommandMeter(options=MeterOptions(id="own", command=("/no/such",), unit="W")).read(1.0)
