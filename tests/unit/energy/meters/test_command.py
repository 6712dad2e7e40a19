"""Commands that print a number, and those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
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


def test_what_left_the_group_ends_with_the_session() -> None:
    import psutil

    # With job control each job has a group of its own.
    with pytest.raises(CommandFailedError, match="longer than"):
        make("set -m; sleep 61.5 & sleep 61.5", timeout_s=0.2).read(1.0)
    assert ["sleep", "61.5"] not in [one.info["cmdline"] for one in psutil.process_iter(["cmdline"])]


#: Root's command, and then a meter without root's rights, as it is with `sudo`: what is begun as root outlives it.
_AS_SUDO = """
import os, sys, threading, time
from ollama_proxy.domain.metering import MeterOptions
from ollama_proxy.energy.meters.command import CommandFailedError, CommandMeter

command = ("/bin/sh", "-c", "echo begun >> %s; while [ ! -e %s ]; do sleep 0.02; done" % (sys.argv[1], sys.argv[2]))
meter = CommandMeter(options=MeterOptions(id="own", command=command, unit="W", timeout_s=0.5))
def give_up_rights():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.005)
    os.setresuid(65534, 65534, 0)
threading.Thread(target=give_up_rights).start()
for round in range(3):
    try:
        meter.read(1.0)
    except CommandFailedError as error:
        print(error)
os.setresuid(0, 0, 0)
open(sys.argv[2], "w").close()
while meter._left.poll() is None:
    time.sleep(0.01)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what others cannot kill")
def test_one_that_cannot_be_killed_is_told_once_and_gets_no_second_beside_it(tmp_path: Path) -> None:
    begun, stop = tmp_path / "begun", tmp_path / "stop"
    words = [sys.executable, "-c", _AS_SUDO, str(begun), str(stop)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "it took longer than 0.5 s",
        *["the one that was started before still runs and cannot be killed"] * 2,
    ]
    assert done.stderr.count("cannot be killed") == 1
    assert begun.read_text().splitlines() == ["begun"]


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
