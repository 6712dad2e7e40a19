"""A proxy that is killed under load, again and again, and what is left each time."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.steady import SteadyLoad


@dataclass
class Killed:
    """Seconds from each start until ready; how many rows its ledger had at last; what was wrong with it at any time."""

    ready_s: list[float] = field(default_factory=list)
    rows: int = 0
    wrong: list[str] = field(default_factory=list)


def begin(proxy: ProxyProcess) -> float:
    """Start it, and wait until it serves: seconds."""
    began_s = time.monotonic()
    proxy.start()
    # Its log is that of the runs before as well.
    wait_until(lambda: http_get(proxy.url + "/readyz")[0] == 200, "the proxy")
    return time.monotonic() - began_s


def kill(proxy: ProxyProcess, rounds: int, say: Callable[[str], None] = lambda line: None) -> Killed:
    """Start it and kill it under load at a random moment, so often. It does not run afterwards."""
    dice, killed = random.Random(2), Killed()
    ledger = proxy.config_path.parent / "ollama-proxy" / "ledger.sqlite"
    for number in range(rounds):
        killed.ready_s.append(begin(proxy))
        with SteadyLoad(proxy.http_port, 50) as load:
            load.wait_for_one()
            time.sleep(1.5 + 1.5 * dice.random())
            proxy.child.process.kill()
            proxy.child.process.wait()
        proxy.child.kill_group()
        connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
        [whole] = connection.execute("PRAGMA integrity_check").fetchone()
        before, [killed.rows] = killed.rows, connection.execute("SELECT COUNT(*) FROM requests").fetchone()
        connection.close()
        if whole != "ok" or killed.rows < before:
            killed.wrong.append(f"round {number + 1}: ledger {whole}, {before} -> {killed.rows} rows")
        say(f"round {number + 1}: ready in {killed.ready_s[-1]:.2f} s, {killed.rows} rows")
    if "put aside" in proxy.child.text():
        killed.wrong.append("a file could not be read and was put aside")
    return killed
