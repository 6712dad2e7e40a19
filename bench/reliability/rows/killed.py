"""D8: the proxy itself is killed."""

from __future__ import annotations

import contextlib

from bench.reliability.row import Outcome, Row, Setting, judge
from tests.support.dripping import DrippingOllama
from tests.support.killing import begin, kill
from tests.support.proxy import ProxyProcess


def killed_proxy(setting: Setting) -> Outcome:
    """So often in a row, with what it keeps looked at each time."""
    rounds = setting.of(100, 5)
    with DrippingOllama(0.02) as upstream:
        backend = {"id": "one", "endpoint": upstream.url, "slots": 0}
        proxy = ProxyProcess(setting.work, replace={"backends": [backend], "routing": {}})
        killed = kill(proxy, rounds, setting.say)
        killed.ready_s.append(begin(proxy))
        with contextlib.suppress(OSError):
            proxy.stop()
    ready_s = sorted(killed.ready_s)
    middle, most = ready_s[len(ready_s) // 2], ready_s[-1]
    words = (
        f"killed {rounds} times: {killed.rows} rows of the ledger, {len(killed.wrong)} things wrong {killed.wrong[:3]};"
        f" ready again after {middle:.2f} s in the middle, {most:.2f} s at most"
    )
    figures = {"rows": killed.rows, "ready_p50_s": round(middle, 2), "ready_max_s": round(most, 2)}
    return judge(words, figures, bool(killed.rows), not killed.wrong, most <= 2.0)


ROWS = (
    Row(
        "D8",
        "kill -9 of the proxy 100 times during writes",
        "stores intact; ready <= 2 s",
        "Under 50 requests a second, at a random moment; then the ledger is checked, and the proxy started again with"
        " all that it had",
        killed_proxy,
        "the file of what was learned is proven by the suite (tests/e2e/test_killed.py)",
    ),
)
