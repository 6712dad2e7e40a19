"""The contract is well written, and what clients were built with goes on working."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT, find_tool

FROZEN = ROOT / "tests/contract"


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    binary = find_tool("buf")
    if binary is None:
        pytest.skip("no buf")
    return subprocess.run([binary, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


def test_buf_finds_nothing_to_say() -> None:
    done = buf("lint", "proto")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_breaks_for_clients_of_the_frozen_contract() -> None:
    done = buf("breaking", "proto", "--against", FROZEN)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("is_now", "would_be"),
    [
        ("string model = 2;", "string model = 9;"),
        ("int32 max_latency_ms = 5;", "int64 max_latency_ms = 5;"),
        ("string backend_used = 2;", "string backend = 2;"),
        ("  rpc Embed(EmbedRequest) returns (EmbedResponse);\n", ""),
    ],
)
def test_what_would_break_a_client_is_found(tmp_path: Path, is_now: str, would_be: str) -> None:
    changed = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", changed)
    path = changed / "compute/v1/compute.proto"
    text = path.read_text()
    assert is_now in text
    path.write_text(text.replace(is_now, would_be, 1))
    done = buf("breaking", changed, "--against", FROZEN)
    assert done.returncode == 100, done.stdout + done.stderr
    assert "compute.proto" in done.stdout
