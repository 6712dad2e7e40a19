"""Who runs what, when several workers do."""

from __future__ import annotations

import pytest

from tests.support.workers import find_unit


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/unit/test_ports.py::test_no_port_is_handed_out_twice", "tests/unit/test_ports.py"),
        ("tests/h2/test_abuse.py::TestIt::test_one[a::b]", "tests/h2/test_abuse.py"),
        ("tests/golden/test_golden.py::test_one_ollama[show]", "ollama"),
        ("tests/e2e/test_clients.py::test_ollama_chat[lab]", "ollama"),
    ],
)
def test_modules_stay_together_and_so_do_those_that_share_servers(test: str, unit: str) -> None:
    assert find_unit(test) == unit
