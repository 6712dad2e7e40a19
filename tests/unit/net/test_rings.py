"""The ring that `net` is in: it may know the domain and nothing else of ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ollama_proxy.net

ROOT = Path(ollama_proxy.net.__file__).parent
ALLOWED = ("ollama_proxy.net", "ollama_proxy.domain")


def imported(path: Path) -> set[str]:
    """Every module a file imports, by absolute name, wherever in the file."""
    package = ["ollama_proxy", "net", *path.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*outer, *([node.module] if node.module else [])])
            found.update(f"{start}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_net_imports_the_domain_and_nothing_further_out(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] == "ollama_proxy"}
    assert {name for name in ours if not name.startswith(ALLOWED)} == set()
