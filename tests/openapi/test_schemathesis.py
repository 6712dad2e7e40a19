"""Requests made out of the OpenAPI document, good and bad: no server errors, no answers that it does not describe."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import ROOT, find_tool
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Of each operation in each phase; bin/check-openapi asks for more.
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "3"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "every_item_conforms",
)


@pytest.fixture(scope="module")
def proxy(work: Path) -> Iterator[ProxyProcess]:
    """A proxy of its own, since it is told everything that it can be told; the devices answer at once."""
    with LabProcess(work, speed=5000) as lab, ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed) as process:
        yield process


@pytest.mark.timeout(7200)
def test_all_operations(proxy: ProxyProcess, tmp_path: Path) -> None:
    binary = find_tool("schemathesis")
    if binary is None:
        pytest.skip("no schemathesis")
    for name in ("hooks.py", "schemathesis.toml"):
        shutil.copy(ROOT / "tests/openapi" / name, tmp_path)
    command = [binary, "run", f"{proxy.url}/openapi.json", "--checks", ",".join(CHECKS), "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"]
    command += ["--continue-on-failure", "--warnings", "off", "--suppress-health-check", "all"]
    # It keeps what it has found in its folder, and imports the hooks from there.
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
