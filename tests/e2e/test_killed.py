"""`kill -9` at any instant: what is kept is whole, and the next start is ready at once."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_proxy.app.learned import Memory
from ollama_proxy.config.schema import Learning
from ollama_proxy.fleet.rates import Observation
from tests.support.dripping import MODEL, DrippingOllama
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.steady import SteadyLoad
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
    for _ in range(100):
        child = os.fork()
        if not child:
            try:
                write_for_ever(path)
            finally:
                os._exit(1)
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


def begin(proxy: ProxyProcess) -> float:
    """Start it, and wait until it serves: seconds."""
    began_s = time.monotonic()
    proxy.start()
    # Its log is that of the runs before as well.
    wait_until(lambda: http_get(proxy.url + "/readyz")[0] == 200, "the proxy")
    return time.monotonic() - began_s


def kill(proxy: ProxyProcess, rounds: int) -> None:
    """Under load, at a random moment, so often."""
    dice = random.Random(2)
    ledger = proxy.config_path.parent / "ollama-proxy" / "ledger.sqlite"
    rows = 0
    for _ in range(rounds):
        ready_s = begin(proxy)
        with SteadyLoad(proxy.http_port, 50) as load:
            time.sleep(1.5 + 1.5 * dice.random())
            proxy.child.process.kill()
            proxy.child.process.wait()
        proxy.child.kill_group()
        assert load.good
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            [(before, rows)] = [(rows, *connection.execute("SELECT COUNT(*) FROM requests").fetchone())]
        connection.close()
        assert rows >= before
        print(f"ready in {ready_s:.2f} s, {rows} rows")
    assert rows
    assert "put aside" not in proxy.child.text()


def make_proxy(upstream: DrippingOllama, work: Path) -> ProxyProcess:
    backend = {"id": "one", "endpoint": upstream.url, "slots": 0}
    return ProxyProcess(work, replace={"backends": [backend], "routing": {}})


def test_a_proxy_that_was_killed_starts_again_with_all_it_had(upstream: DrippingOllama, work: Path) -> None:
    proxy = make_proxy(upstream, work)
    kill(proxy, 1)
    begin(proxy)
    body = json.dumps({"model": MODEL, "prompt": "hi"}).encode()
    urllib.request.urlopen(proxy.url + "/api/generate", body, timeout=20).close()
    assert proxy.stop() == 0


@pytest.mark.long
def test_a_proxy_is_killed_a_hundred_times(upstream: DrippingOllama, work: Path) -> None:
    kill(make_proxy(upstream, work), 100)
