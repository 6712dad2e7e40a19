"""Faults: how they are read and how often they strike."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.lab.faults import NO_FAULT, Fault, FaultSwitch, read_fault


@pytest.mark.parametrize("kind", ["none", "refuse", "reset", "stall", "cut", "status", "slow", "garbage"])
def test_every_kind_is_read(kind: str) -> None:
    assert read_fault(b'{"fault": "%b"}' % kind.encode()).fault == kind


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b'{"fault": "burn"}', "fault"),
        (b'{"fault": "cut", "after_chunks": -1}', "after_chunks"),
        (b'{"fault": "status", "status": 200}', "status"),
        (b'{"fault": "slow", "factor": 0}', "factor"),
        (b'{"fault": "stall", "times": -1}', "times"),
        (b'{"fault": "stall", "often": 1}', "often"),
    ],
)
def test_a_fault_that_cannot_be_read_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(ProxyError, match=named) as caught:
        read_fault(body)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_nothing_strikes_at_first() -> None:
    assert FaultSwitch().strike("/api/chat") is NO_FAULT


def test_a_fault_without_a_count_strikes_until_it_is_switched_off() -> None:
    switch = FaultSwitch()
    switch.set(Fault("stall"))
    assert [switch.strike("/api/chat").fault for _ in range(5)] == ["stall"] * 5
    switch.set(NO_FAULT)
    assert switch.strike("/api/chat").fault == "none"


def test_a_count_is_how_many_it_hits() -> None:
    switch = FaultSwitch()
    switch.set(Fault("status", times=2))
    assert [switch.strike("/api/chat").fault for _ in range(4)] == ["status", "status", "none", "none"]
    assert switch.fault.fault == "none"


def test_other_paths_neither_suffer_nor_use_up_the_count() -> None:
    switch = FaultSwitch()
    switch.set(Fault("reset", times=1, paths=("/api/chat",)))
    assert switch.strike("/api/generate").fault == "none"
    assert switch.strike("/api/chat").fault == "reset"
    assert switch.strike("/api/chat").fault == "none"


def test_setting_again_starts_the_count_again() -> None:
    switch = FaultSwitch()
    for _ in range(2):
        switch.set(Fault("stall", times=1))
        assert switch.strike("/api/chat").fault == "stall"
