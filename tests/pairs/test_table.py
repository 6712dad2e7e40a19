"""The page of pairs says what the code does and the tests ask."""

from __future__ import annotations

from tests.pairs.table import PAGE, render


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(), "run python -m tests.pairs.table"
