"""Who runs what, when several workers do."""

from __future__ import annotations

import pytest

from tests.support.workers import ByModule


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/unit/test_a.py::test_one", "tests/unit/test_a.py"),
        ("tests/unit/test_a.py::TestIt::test_one[a::b@c]", "tests/unit/test_a.py"),
        ("tests/e2e/test_b.py::test_two[ollama]@ollama", "ollama"),
    ],
)
def test_modules_and_groups_stay_together(test: str, unit: str) -> None:
    assert ByModule.__new__(ByModule)._split_scope(test) == unit
