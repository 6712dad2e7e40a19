"""Which worker runs which tests when several do (`bin/test` starts one for each core, by pytest-xdist).

A module's tests stay together, as their fixtures are made once for them, and so do all that ask the real Ollamas.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadGroupScheduling

#: Tests of one group run in one worker: four servers with their models are enough for a machine.
OLLAMA = "ollama"


class ByModule(LoadGroupScheduling):
    """Deals out groups and modules, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return scope.partition("::")[0]


def name_group(item: pytest.Item) -> None:
    """Keep a test with those that share its servers."""
    if item.get_closest_marker("ollama"):
        item.add_marker(pytest.mark.xdist_group(OLLAMA))


def rank(item: pytest.Item) -> int:
    """What takes long begins first: what is dealt out last should be short, or one worker ends long before another."""
    for place, marker in enumerate(("ollama", "slow", "e2e")):
        if item.get_closest_marker(marker):
            return place
    return 3
