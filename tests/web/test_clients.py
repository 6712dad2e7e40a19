"""Foreign clients of Connect and gRPC-Web: whole answers, streams, errors, a deadline, and a call that is given up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import ROOT, find_tool, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

JAVASCRIPT = (
    "connect-node-json",
    "connect-node-gzip",
    "connect-node-h2",
    "connect-web",
    "grpc-web-node-gzip",
    "grpc-web-fetch",
    "grpc-web-google-text",
)
PYTHON = ("connectrpc", "connectrpc-json", "connectrpc-grpc-web")
OK, CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 4, 5


@pytest.fixture(scope="module")
def slow(work: Path) -> Iterator[tuple[LabProcess, ProxyProcess]]:
    """Devices as slow as in life, and a proxy in front of them."""
    with LabProcess(work, speed=1) as lab, ProxyProcess(work, endpoints=lab.endpoints) as proxy:
        yield lab, proxy


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract as compiled by protoc, which is all that a JavaScript client needs to know of it."""
    path = tmp_path_factory.mktemp("descriptors") / "compute.bin"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", f"--descriptor_set_out={path}"]
    subprocess.run([*command, "compute/v1/compute.proto"], cwd=ROOT, check=True)
    return path


def request(tokens: int = 6) -> dict[str, Any]:
    options = {"maxTokens": tokens}
    return {"prompt": "hi", "model": "qwen2.5:0.5b", "annotations": {"target": "nvidia"}, "options": options}


UNKNOWN = {"prompt": "hi", "model": "nobody-has-it"}


#: The long ones are more than the emulated device makes in any of these tests.
CALLS = [
    {"method": "Generate", "request": request()},
    {"method": "GenerateStream", "request": request()},
    {"method": "Generate", "request": UNKNOWN},
    {"method": "GenerateStream", "request": UNKNOWN},
    {"method": "GenerateStream", "request": request(100_000), "timeoutMs": 1200},
    {"method": "GenerateStream", "request": request(100_000), "cancel": True},
]


@pytest.mark.parametrize("client", [*JAVASCRIPT, *PYTHON])
def test_a_foreign_client(slow: tuple[LabProcess, ProxyProcess], descriptors: Path, client: str) -> None:
    tool, script = ("connect-py", "clients.py") if client in PYTHON else ("web-clients", "clients.js")
    binary = find_tool(tool)
    if binary is None:
        pytest.skip(f"no {tool}")
    lab, proxy = slow
    before = lab.state("nvidia")["cancelled"]
    facts = str(ROOT / "src/ollama_proxy/api/gen" if client in PYTHON else descriptors)
    command = [binary, str(ROOT / "tests/web" / script), proxy.url, facts, client, json.dumps(CALLS)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    whole, stream, missing, missing_stream, late, given_up = json.loads(done.stdout)
    assert (whole["code"], whole["pieces"], whole["backend"]) == (OK, 1, "ollama-nvidia")
    assert (stream["code"], stream["pieces"], stream["backend"]) == (OK, 7, "ollama-nvidia")
    assert (missing["code"], missing_stream["code"]) == (NOT_FOUND, NOT_FOUND)
    assert late["code"] == DEADLINE_EXCEEDED
    assert given_up["code"] == CANCELLED
    wait_until(lambda: lab.state("nvidia")["cancelled"] == before + 2, "the device to hear that nobody waits")
    wait_until(lambda: lab.state("nvidia")["in_flight"] == 0, "the device to rest")
