"""`kill -9` at any instant: what is kept is whole, and the next start is ready at once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_proxy.app.learned import Memory
from ollama_proxy.config.schema import Learning
from ollama_proxy.fleet.rates import Observation
from tests.support.dripping import MODEL, DrippingOllama
from tests.support.killing import begin, kill
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess
from tests.unit.app.test_learned import Learnt, memory

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def upstream() -> Iterator[DrippingOllama]:
    with DrippingOllama(0.02) as server:
        yield server


def write_for_ever(path: Path) -> None:
    """Save more and more; never returns."""
    learnt = Learnt()
    keeper = Memory(Learning(path=str(path)), learnt)  # type: ignore[arg-type]
    number = 0
    while True:
        number += 1
        learnt.fleet_state.succeeded("a", f"m{number % 50}:1b", Observation(1.0, 40.0, 100, 3.0), 1000.0 + number)
        learnt.lengths.learn(f"m{number % 50}:1b", "ollama", "", number)
        keeper.save()


def test_what_was_learned_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    path, dice = tmp_path / "learned.json", random.Random(1)
    for number in range(100):
        child = os.fork()
        if not child:
            try:
                write_for_ever(path)
            finally:
                os._exit(1)
        if not number:
            # Where the machine is busy, none might come to its first.
            wait_until(path.exists, "the first to be written")
        time.sleep(0.01 * dice.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if path.exists():
            json.loads(path.read_bytes())
    after = Learnt()
    memory(path, after).recall()
    assert after.fleet_state.look("a").rates
    # What the killed have left is gone with the next start.
    assert [one.name for one in tmp_path.iterdir()] == ["learned.json"]


def make_proxy(upstream: DrippingOllama, work: Path) -> ProxyProcess:
    backend = {"id": "one", "endpoint": upstream.url, "slots": 0}
    return ProxyProcess(work, replace={"backends": [backend], "routing": {}})


def test_a_proxy_that_was_killed_starts_again_with_all_it_had(upstream: DrippingOllama, work: Path) -> None:
    proxy = make_proxy(upstream, work)
    killed = kill(proxy, 1)
    assert killed.rows
    assert not killed.wrong
    begin(proxy)
    body = json.dumps({"model": MODEL, "prompt": "hi"}).encode()
    urllib.request.urlopen(proxy.url + "/api/generate", body, timeout=20).close()
    assert proxy.stop() == 0


@pytest.mark.long
def test_a_proxy_is_killed_a_hundred_times(upstream: DrippingOllama, work: Path) -> None:
    killed = kill(make_proxy(upstream, work), 100, print)
    assert killed.rows
    assert not killed.wrong
