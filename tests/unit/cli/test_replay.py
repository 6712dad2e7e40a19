"""`ollama-proxy replay`: the same bytes under the same policy, the difference under another."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_proxy.cli.main import app
from ollama_proxy.routing.record import Inputs, decide_again, make_record
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.support.fleets import DOWN, POLICY, SMALL, shipped, wants

CASES: list[Inputs] = [
    (wants(SMALL, 50), shipped(), POLICY, frozenset(), "", False),
    (wants(SMALL, 50), shipped(igpu={"in_flight": 3}), POLICY, frozenset(), "", False),
    (wants(SMALL, 50, latency_critical=True), shipped(), POLICY, frozenset(), "", False),
    (wants("nowhere"), shipped(npu=DOWN), POLICY, frozenset(), "", False),
]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    lines = [
        write_record(make_record(f"d-r{number}-1", 1_700_000_000.5, given, decide_again(given))) + b"\n"
        for number, given in enumerate(CASES)
    ]
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and all that is printed."""
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    return done.exit_code, done.output


def test_under_their_own_policy_all_are_the_same(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.jsonl"
    assert run(recorded, "--out", out) == (
        0,
        "4 decision(s) replayed under their own policies: each is the same to the byte.\n",
    )
    assert out.read_bytes() == recorded.read_bytes()


def test_a_record_that_was_tampered_with_is_named(recorded: Path) -> None:
    text = recorded.read_text()
    recorded.write_text(text.replace('"lambda_watts":10.0', '"lambda_watts":50.0', 1))
    code, told = run(recorded)
    assert code == 1
    assert "1 came out otherwise: d-r0-1" in told


def test_under_another_mode_it_tells_who_moves_and_at_what_price(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "other.jsonl"
    code, told = run(recorded, "--mode", "performance", "--out", out)
    assert code == 0
    assert "replayed under mode Performance" in told
    assert "ollama-igpu -> ollama-nvidia" in told
    assert "J\n" in told
    first = read_record(out.read_bytes().splitlines()[0])
    assert (first.policy.name, first.verdict.lambda_watts, first.verdict.backend) == (
        "Performance",
        50,
        "ollama-nvidia",
    )


def test_under_another_rule(recorded: Path) -> None:
    code, told = run(recorded, "--policy", "greenest")
    assert code == 0
    assert "replayed under rule greenest" in told
    assert "-> ollama-npu" in told


def test_a_torn_line_is_told_and_the_others_are_replayed(recorded: Path) -> None:
    with recorded.open("ab") as file:
        file.write(b'{"id": "d-r9')
    code, told = run(recorded)
    assert code == 1
    assert "record 5: this is no decision that can be replayed" in told
    assert "4 decision(s) replayed" in told


@pytest.mark.parametrize("flags", [("--mode", "loud"), ("--policy", "dice"), ("--out", "/nowhere/at/all")])
def test_what_cannot_be_is_refused_in_a_sentence(recorded: Path, flags: tuple[str, str]) -> None:
    code, told = run(recorded, *flags)
    assert code == 2
    assert told.startswith("ollama-proxy replay: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert run(tmp_path / "none.jsonl")[0] == 2


def test_of_nothing_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    code, told = run(tmp_path / "empty.jsonl")
    assert code == 2
    assert "there is no decision to replay" in told
