"""A plugin of pytest: Hypothesis draws as many examples as the environment says, whatever the tests ask for."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from bench.reliability.tested import EXAMPLES

#: Where Hypothesis keeps a test's settings.
_PLACE = "_hypothesis_internal_use_settings"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Change the settings of every property that was collected."""
    count = int(os.environ.get(EXAMPLES, "0"))
    if not count:
        return
    found = 0
    for function in {getattr(item, "obj", None) for item in items}:
        target = getattr(function, "__func__", function)
        before = getattr(target, _PLACE, None)
        if before is not None:
            found += 1
            changed = settings(before, max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
            setattr(target, _PLACE, changed)
    if not found:
        raise pytest.UsageError("no property takes more examples: has Hypothesis moved its settings?")
