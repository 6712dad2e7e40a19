"""The latest decisions: kept as references, made into records when asked, closed with what then happened."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollama_proxy.domain.answer import Finished, Outcome, Usage
from ollama_proxy.domain.decision import Decision, Refusal
from ollama_proxy.observability.decision_file import DecisionFile
from ollama_proxy.observability.decisions import Decisions, Taken
from ollama_proxy.routing.record import Inputs, decide_again, replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.support.fleets import DOWN, POLICY, SMALL, shipped, wants

GIVEN: Inputs = (wants(SMALL, 50), shipped(), POLICY, frozenset(), "", False)
ANSWER = Outcome(
    Finished(usage=Usage(prompt_tokens=7, output_tokens=20, load_ns=2 * 10**9)), 3.5, 5.5, 20, 10.0, 12.0, "modelled"
)


def keep(**options: int) -> Decisions:
    return Decisions(unix_clock=lambda: 1_700_000_000.0, **options)


def take(decisions: Decisions, number: int = 1) -> Taken:
    return decisions.take(f"r{number}", 1, GIVEN, decide_again(GIVEN))


def test_a_decision_is_found_by_the_id_that_answers_carry() -> None:
    decisions = keep()
    taken = take(decisions)
    assert decisions.find("d-r1-1") is taken
    assert decisions.find("d-r1-2") is None
    assert taken.make_record().decided_unix_s == 1_700_000_000.0


def test_only_the_latest_are_kept_newest_first() -> None:
    decisions = keep(most=3)
    for number in range(5):
        take(decisions, number)
    assert [one.id for one in decisions.latest(2)] == ["d-r4-1", "d-r3-1"]
    assert len(decisions) == 3
    assert decisions.find("d-r1-1") is None


def test_of_two_with_one_id_the_newer_is_meant() -> None:
    decisions = keep()
    take(decisions)
    newer = take(decisions)
    assert decisions.find("d-r1-1") is newer


def test_what_happened_counts_from_the_decision_on() -> None:
    decisions = keep()
    taken = take(decisions)
    assert taken.make_record().outcome is None
    decisions.answered(taken, ANSWER, 1.5, True)
    outcome = taken.make_record().outcome
    assert outcome is not None
    assert (outcome.result, outcome.waited_s, outcome.ttft_s, outcome.e2e_s) == ("ok", 1.5, 2.0, 4.0)
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.load_s) == (7, 20, 2.0)
    assert (outcome.joules, outcome.joules_kind) == (12.0, "modelled")


def test_a_whole_answer_without_the_servers_own_times_shows_no_first_token() -> None:
    decisions = keep()
    taken = take(decisions)
    decisions.answered(taken, ANSWER, 1.5, False)
    outcome = taken.make_record().outcome
    assert outcome is not None
    assert outcome.ttft_s is None


def test_a_failure_keeps_its_words_and_no_figures() -> None:
    decisions = keep()
    taken = take(decisions)
    decisions.ended(taken, "failed", "connection reset", 0.0, 0.25)
    outcome = taken.make_record().outcome
    assert outcome is not None
    assert (outcome.result, outcome.error, outcome.e2e_s, outcome.joules) == ("failed", "connection reset", 0.25, None)


def test_a_record_made_late_tells_of_the_fleet_as_it_was() -> None:
    decisions = keep()
    taken = take(decisions)
    first = write_record(taken.make_record())
    # The same views, asked again under another policy and by other requests, remember more; nothing of it shows.
    for other in (wants("llama3:7b"), wants(SMALL, latency_critical=True)):
        decide_again((other, GIVEN[1], POLICY, frozenset(), "", False))
    assert write_record(taken.make_record()) == first
    assert write_record(replay(read_record(first))) == first


# -- the file ------------------------------------------------------------------------


def test_what_has_ended_is_written_and_can_be_replayed(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "decisions.jsonl")
    decisions = Decisions(file.add, unix_clock=lambda: 1_700_000_000.0)
    answered, running = take(decisions, 1), take(decisions, 2)
    down: Inputs = (wants(), shipped(npu=DOWN, igpu=DOWN, nvidia=DOWN, cpu=DOWN), POLICY, frozenset(), "", False)
    refusal = decide_again(down)
    assert isinstance(refusal, Refusal)
    refused = decisions.take("r3", 1, down, refusal)
    decisions.answered(answered, ANSWER, 0.0, True)
    decisions.ended(refused, "refused", refusal.message, 0.0, 0.0)
    file.flush()
    lines = (tmp_path / "decisions.jsonl").read_bytes().splitlines()
    assert [read_record(line).id for line in lines] == [answered.id, refused.id]
    for line in lines:
        assert write_record(replay(read_record(line))) == line
    assert isinstance(running.verdict, Decision)
    decisions.answered(running, ANSWER, 0.0, True)
    file.flush()
    assert len((tmp_path / "decisions.jsonl").read_bytes().splitlines()) == 3


def test_what_has_ended_keeps_nothing_that_was_reckoned() -> None:
    decisions = Decisions(unix_clock=lambda: 1_700_000_000.0)
    answered, refused = take(decisions, 1), take(decisions, 2)
    before = [msgspec.structs.replace(one.make_record(), outcome=None) for one in (answered, refused)]
    decisions.answered(answered, ANSWER, 0.0, True)
    decisions.ended(refused, "failed", "broken", 0.0, 1.0)
    assert answered.verdict is None
    assert refused.verdict is None
    assert [msgspec.structs.replace(one.make_record(), outcome=None) for one in (answered, refused)] == before


def test_a_full_file_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    decisions = keep()
    one = take(decisions)
    size = len(write_record(one.make_record())) + 1
    file = DecisionFile(path, max_bytes=2 * size)
    for _ in range(5):
        file.add(one)
        file.flush()
    assert len(path.read_bytes()) == size
    assert len((tmp_path / "decisions.jsonl.1").read_bytes()) == 2 * size


def test_what_cannot_be_written_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "nowhere").write_text("no folder")
    file = DecisionFile(tmp_path / "nowhere" / "decisions.jsonl")
    one = take(keep())
    for _ in range(3):
        file.add(one)
        file.flush()
    assert file.dropped == 3
    assert len(caplog.records) == 1
    (tmp_path / "nowhere").unlink()
    file.add(one)
    file.flush()
    assert (tmp_path / "nowhere" / "decisions.jsonl").exists()


def test_a_disk_that_stands_still_costs_the_oldest_decisions(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "decisions.jsonl", most_waiting=2)
    decisions = keep()
    for number in range(3):
        file.add(take(decisions, number))
    assert (len(file), file.dropped) == (2, 1)
    file.flush()
    lines = (tmp_path / "decisions.jsonl").read_bytes().splitlines()
    assert [read_record(line).id for line in lines] == ["d-r1-1", "d-r2-1"]
