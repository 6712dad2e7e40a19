"""What this very process has used, and what it was told about its arguments."""

from __future__ import annotations

import os
import time

import pytest

from bench.machine import Ticks, describe_machine, stolen_share
from bench.participants import PARTICIPANTS, make_participant
from bench.ports import find_ports
from bench.profiling import KINDS, shorten
from bench.usage import find_session, read_cpu_ns, read_memory

_NO_SUCH_PID = 2**22 + 1  # above the kernel's greatest


def test_cpu_is_that_of_the_process() -> None:
    before_ns, own_ns = read_cpu_ns([os.getpid()]), time.process_time_ns()
    deadline_ns = own_ns + 20_000_000
    while time.process_time_ns() < deadline_ns:
        pass
    used_ns = read_cpu_ns([os.getpid()]) - before_ns
    assert 20_000_000 <= used_ns <= time.process_time_ns() - own_ns + 20_000_000


def test_processes_that_have_ended_count_nothing() -> None:
    assert read_cpu_ns([_NO_SUCH_PID]) == 0
    assert read_memory([_NO_SUCH_PID]).rss_kb == 0


def test_memory_shared_among_processes_is_divided() -> None:
    memory = read_memory([os.getpid()])
    assert 1000 < memory.pss_kb <= memory.rss_kb


def test_session_holds_its_members() -> None:
    assert os.getpid() in find_session(os.getsid(0))


def test_ports_differ() -> None:
    assert len({find_ports(2) for _ in range(5)}) > 1


def test_stolen_share() -> None:
    assert stolen_share(Ticks(1000, 10), Ticks(2000, 60)) == pytest.approx(0.05)
    assert stolen_share(Ticks(1000, 10), Ticks(1000, 10)) == 0


def test_machine_is_described_in_words() -> None:
    assert all(describe_machine().values())


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_participants_have_the_names_they_are_found_by(name: str) -> None:
    assert make_participant(name).name == name


def test_places_are_short() -> None:
    assert shorten("~", 0, "<built-in method len>") == "built-in method len"
    assert shorten("/somewhere/site-packages/hpack/table.py", 7, "get") == "hpack/table.py:7 get"
    assert "stream" in KINDS
