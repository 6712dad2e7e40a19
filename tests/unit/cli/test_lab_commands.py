"""`lab fault` and `lab load`: what cannot be is refused in a sentence, and both work as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_proxy.cli.lab import app
from tests.support.lab import LabProcess


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fault"], "name a device and a fault, or give --listen"),
        (["fault", "npu"], "name a device and a fault"),
        (["fault", "--listen", "0"], "go together"),
        (["fault", "--upstream", "127.0.0.1:1"], "go together"),
        (["fault", "npu", "stall", "--listen", "0", "--upstream", "127.0.0.1:1"], "without a device"),
        (["fault", "--listen", "0", "--upstream", "nowhere"], "expected HOST:PORT"),
        (["fault", "--listen", "0", "--upstream", "127.0.0.1:1", "--end", "explode"], "invalid fault"),
        (["fault", "--listen", "0", "--upstream", "127.0.0.1:1", "--share", "2"], "invalid fault"),
        (["load", "--url", "ftp://x", "--rate", "1", "--duration", "1"], "expected http://HOST:PORT"),
        (["load", "--url", "http://x/y", "--rate", "1", "--duration", "1"], "expected http://HOST:PORT"),
        (["load", "--url", "http://x:y", "--rate", "1", "--duration", "1"], "expected http://HOST:PORT"),
        (["load", "--url", "http://x", "--rate", "1", "--duration", "1", "--api", "y"], "expected one of ollama"),
        (["load", "--url", "http://x", "--rate", "1", "--duration", "1", "--header", "y"], "expected NAME: VALUE"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.output.startswith("ollama-proxy lab: ")
    assert said in done.output


@pytest.mark.e2e
def test_load_writes_what_it_found(lab: LabProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    flags = ["--rate", "20", "--duration", "0.5", "--stream", "--text-seed", "1", "--json", str(report)]
    done = CliRunner().invoke(app, ["load", "--url", lab.url("nvidia"), *flags])
    assert done.exit_code == 0, done.output
    found = json.loads(report.read_text())
    assert (found["sent"], found["answered"], found["wrong_text"]) == (10, 10, 0)
    assert found["whole_ms"]["p50"] <= found["whole_ms"]["p99.9"]
    assert "sent 10, answered 10" in done.output
