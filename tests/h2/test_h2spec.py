"""h2spec, the conformance suite for HTTP/2 and HPACK: its 145 cases and the strict one, on every port with HTTP/2."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.h2.servers import TestServer
from tests.support.processes import find_tool
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

CASES = 145 + 1


def run_h2spec(port: int, path: str, failing: tuple[str, ...] = ()) -> None:
    """All cases pass but those named, which must fail."""
    binary = find_tool("h2spec")
    if binary is None:
        pytest.skip("no h2spec: bin/test installs it where Go is")
    done = subprocess.run(
        [binary, "--strict", "--port", str(port), "--path", path, "--timeout", "4"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary is not None, done.stdout + done.stderr
    failures = done.stdout[done.stdout.find("Failures:") :]
    found = (CASES, CASES - len(failing), 0, len(failing))
    assert tuple(map(int, summary.groups())) == found, failures
    assert [case for case in failing if case not in failures] == [], failures


def test_the_grpc_port(lab_proxy: ProxyProcess) -> None:
    run_h2spec(lab_proxy.grpc_port, "/")


def test_the_http_port(lab_proxy: ProxyProcess) -> None:
    # What begins like HTTP/1.1 is answered in HTTP/1.1 there: 400, then the end. h2spec takes that for a bad frame.
    run_h2spec(lab_proxy.http_port, "/health", failing=("2: Sends invalid connection preface",))


def test_a_grpc_server_alone(testservice: TestServer) -> None:
    run_h2spec(testservice.port, "/")
