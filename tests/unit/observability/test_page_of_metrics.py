"""Every metric has a row in the page for operators, and every row a metric."""

from __future__ import annotations

import asyncio
import re

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Cache, Config
from tests.support.processes import ROOT

_PREFIX = "ollama_proxy_"


def collect_names() -> set[str]:
    """What `/metrics` tells of, without the prefix."""

    async def ask() -> bytes:
        proxy = Proxy(Config(cache=Cache(enabled=True)))
        page, _ = proxy.control.metrics()
        await proxy.stop()
        return page

    return set(re.findall(rf"^# HELP {_PREFIX}(\w+)", asyncio.run(ask()).decode(), re.MULTILINE))


def test_the_page_for_operators_has_every_metric_and_no_other() -> None:
    _, _, section = (ROOT / "docs/operations.md").read_text().partition("\n## Metrics\n")
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == collect_names()
