"""`ollama-proxy explain`: what is asked has to make sense before anybody is asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ollama_proxy.cli.main import app


@pytest.mark.parametrize(
    "supposition",
    [
        "--prompt=x",
        "--prompt-bytes=9",
        "--max-tokens=9",
        "--embed",
        "--without=a",
        "--cap=20",
        "--mode=Quiet",
        "--wish=a=b",
    ],
)
def test_a_supposition_without_a_model_is_not_passed_over(supposition: str) -> None:
    for ident in ([], ["d-1-1"]):
        done = CliRunner().invoke(app, ["explain", supposition, *ident])
        assert done.exit_code == 2
        assert f"{supposition.partition('=')[0]} needs --model" in done.output


def test_an_id_and_a_supposition_are_two_questions() -> None:
    done = CliRunner().invoke(app, ["explain", "d-1-1", "--model", "m"])
    assert (done.exit_code, "not both" in done.output) == (2, True)
