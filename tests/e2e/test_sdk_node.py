"""`ollama`, `openai` and `@anthropic-ai/sdk` from npm, as they come: the proxy gives them what a real Ollama gives."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.ollama import RealOllama
from tests.support.processes import find_tool
from tests.support.proxy import ProxyProcess
from tests.support.same import same

pytestmark = [pytest.mark.e2e, pytest.mark.ollama, pytest.mark.long]

SCRIPT = Path(__file__).with_name("sdk_scenarios.js")
NAMES = re.findall(r"^  (\w+): ", SCRIPT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def told(ollamas: RealOllama, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the clients say of a real server, and of a proxy with nothing else behind it."""
    node = find_tool("node-clients")
    if node is None:
        pytest.skip("no node-clients: bin/test installs them where node and npm are")
    direct = ollamas.url("ollama-nvidia")
    only = {"id": "only", "type": "ollama", "endpoint": direct}
    with ProxyProcess(work, changes={"backends": [only], "routing": {"default_backend": ""}}) as proxy:
        return run(node, direct), run(node, proxy.url)


def run(node: str, url: str) -> dict[str, Any]:
    done = subprocess.run([node, SCRIPT, url], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    # Ids stand in texts, too.
    found: dict[str, Any] = json.loads(re.sub(r"req_[0-9a-f-]{8,}", "req_...", done.stdout))
    return found


@pytest.mark.timeout(700)
@pytest.mark.parametrize("name", NAMES)
def test_a_client_gets_what_ollama_says(told: tuple[dict[str, Any], dict[str, Any]], name: str) -> None:
    direct, through = same(told[0][name]), same(told[1][name])
    assert "failed" not in (direct or {}), direct
    assert through == direct


@pytest.mark.timeout(700)
def test_every_scenario_was_run(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert list(told[0]) == list(told[1]) == NAMES
    assert len(NAMES) > 25
