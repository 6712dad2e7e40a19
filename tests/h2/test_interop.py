"""gRPC's own interoperability cases, run by grpc-go's client against our server."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.h2.servers import TestServer
from tests.support.processes import find_tool

pytestmark = pytest.mark.e2e

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
)


@pytest.mark.parametrize("case", CASES)
def test_grpc_go_agrees(testservice: TestServer, case: str) -> None:
    binary = find_tool("grpc-interop")
    if binary is None:
        pytest.skip("no grpc-interop: bin/test installs it where Go is")
    done = subprocess.run(
        [binary, "-server_host=127.0.0.1", f"-server_port={testservice.port}", f"-test_case={case}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "GRPC_GO_LOG_SEVERITY_LEVEL": "info"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # A case that the client does not know, or skips, would also end well; what it ran, it reports.
    assert re.search(r"\bdone\b|\[SUCCESS\]|succeeded|0 failures", done.stderr), done.stderr[-4000:]
