"""Backends die under streams, each in turn: nobody loses a request, and nobody reads another text than uncut."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.reliability.kills import Tally, kill_in_turn

pytestmark = pytest.mark.e2e


def check(tally: Tally) -> None:
    figures = tally.figures()
    assert figures["struck"]
    assert figures["continued"] == figures["struck"]
    assert [one.error for one in tally.streams if one.error] == []
    assert all(one.whole for one in tally.streams), figures


def test_kill_9_of_each_backend_in_turn_loses_nothing(work: Path) -> None:
    check(asyncio.run(kill_in_turn(work, streams=40, speed=1.5, tokens=30, hurried=True)))


@pytest.mark.long
def test_kill_9_under_many_streams_loses_nothing(work: Path) -> None:
    check(asyncio.run(kill_in_turn(work, streams=200, speed=0.6, tokens=100)))
