"""Which worker runs which tests when several do (`bin/test` starts one for each core, by pytest-xdist).

A module's tests stay together, as their fixtures are made once for them, and so do the modules that ask real Ollamas:
four servers with their models are enough for a machine. (xdist has groups, but tells them by what pytest 9.2 hides.)
"""

from __future__ import annotations

from functools import cache

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.processes import ROOT

OLLAMA = "ollama"


class ByModule(LoadScopeScheduling):
    """Deals out modules, and the group, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return find_unit(nodeid)


@cache
def find_unit(nodeid: str) -> str:
    """What a test is dealt out with."""
    module = nodeid.partition("::")[0]
    return OLLAMA if _asks_ollama(module) else module


@cache
def _asks_ollama(module: str) -> bool:
    """By its text: whoever deals out has not imported the modules."""
    return "mark.ollama" in (ROOT / module).read_text()


def rank(item: pytest.Item) -> int:
    """What takes long begins first: what is dealt out last should be short, or one worker ends long before another."""
    for place, marker in enumerate(("ollama", "slow", "e2e")):
        if item.get_closest_marker(marker):
            return place
    return 3
