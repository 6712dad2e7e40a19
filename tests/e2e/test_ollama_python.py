"""ollama-python's own test suite, with the proxy between the client and the mock server that it expects to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.processes import ROOT, find_tool, free_port
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

#: How many there were when this was written; later versions have more.
LEAST = 73


def test_the_whole_suite_passes_through_a_transparent_backend(work: Path, tmp_path: Path) -> None:
    tool = find_tool("ollama-python-tests")
    if tool is None:
        pytest.skip("no sources of ollama-python: bin/test fetches them where the network is")
    suite = Path(subprocess.run([tool], check=True, capture_output=True, text=True).stdout.strip())
    port = free_port()
    mock = {"id": "mock", "type": "ollama", "endpoint": f"http://127.0.0.1:{port}", "transparent": True}
    changes = {"backends": [mock], "routing": {"default_backend": ""}}
    with ProxyProcess(work, changes=changes) as proxy:
        passed, ill = run(suite, tmp_path, proxy.url, port)
        assert ill == []
        assert passed >= LEAST
    # The proof that they went through it: without it, whatever asks the mock server fails.
    passed, ill = run(suite, tmp_path, proxy.url, port, "-k", "test_client_chat_stream")
    assert passed == 0
    assert ill


def run(suite: Path, folder: Path, url: str, port: int, *more: str) -> tuple[int, list[str]]:
    """How many passed, and what did not."""
    report = folder / "report.xml"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(suite.parent)]
    command += ["-p", "tests.support.client_suite", "-p", "no:randomly", "-p", "no:cacheprovider"]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PROXY_URL": url,
        "PYTEST_HTTPSERVER_HOST": "127.0.0.1",
        "PYTEST_HTTPSERVER_PORT": str(port),
    }
    command += [f"--junitxml={report}", *more, str(suite)]
    subprocess.run(command, env=env, capture_output=True, cwd=folder, check=False, timeout=100)
    cases = list(ElementTree.parse(report).iter("testcase"))
    ill = [str(case.get("name")) for case in cases if len(case)]
    return len(cases) - len(ill), ill
