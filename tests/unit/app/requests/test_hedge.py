"""A second attempt beside the first: when, for whom, who wins, and what is left."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.decision import Decision
from ollama_proxy.domain.device import Health
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.lifecycle.hedge_budget import HedgeBudget
from tests.unit.app.requests.test_dispatch import MODEL, Client, Job, Stage
from tests.unit.app.requests.test_silence import teach

CRITICAL = Annotations(latency_critical=True)


class Race(Stage):
    """Both backends begin within 0.2 s, as both have shown; so many requests have gone by."""

    def __init__(self, *, before: int = 100, hedges: bool = True) -> None:
        super().__init__("a", "b")
        teach(self, 0.2)
        for _ in range(before):
            self.dispatcher.take_serial()
        self.dispatcher.hedges = HedgeBudget() if hedges else None

    def ask(self, **fields: Any) -> tuple[Job, Client]:
        client = Client()
        call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, self.now_s, Generation, CRITICAL)
        return self.dispatcher.submit(msgspec.structs.replace(call, **fields), client), client

    def names(self, job: Job) -> tuple[str, str]:
        """The first, and the other."""
        return job.life.backend, {"a": "b", "b": "a"}[job.life.backend]

    def sent(self) -> int:
        return sum(len(one.attempts) for one in self.backends.values())

    def is_empty(self) -> bool:
        return not self.dispatcher.running and all(self.view(name).in_flight == 0 for name in self.backends)


def finish(sink: Any, text: str) -> None:
    sink.on_events([TextDelta(text)])
    sink.on_end(Finished(usage=Usage(5, 1)))


@pytest.mark.parametrize("winner", [0, 1])
def test_whoever_begins_first_answers_and_the_other_is_broken_off(winner: int) -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    assert race.sent() == 2
    assert [race.view(name).in_flight for name in names] == [1, 1]
    first, second = (race.backends[name].attempts[0] for name in names)
    won, lost = (first, second)[winner], (second, first)[winner]
    won.sink.on_events([TextDelta("x")])
    assert lost.aborted
    assert not won.aborted
    assert race.view(names[1 - winner]).in_flight == 0
    won.sink.on_events([TextDelta("y")])
    won.sink.on_end(Finished(usage=Usage(5, 2)))
    assert client.text == "xy"
    assert client.route is not None
    assert (client.route.backend, client.route.attempts) == (names[winner], 2)
    assert race.is_empty()
    assert [race.view(name).health for name in names] == [Health.HEALTHY] * 2


@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize("whole", [False, True])
def test_the_answer_names_the_decision_that_it_was_made_by(winner: int, whole: bool) -> None:
    race = Race()
    job, client = race.ask()
    name = race.names(job)[winner]
    race.pass_time(1.0)
    sink = race.backends[name].attempts[0].sink
    if whole:
        sink.on_whole(200, b"text/plain", b"x", Finished(usage=Usage(5, 1)))
    else:
        sink.on_events([TextDelta("x")])
    assert client.route is not None
    assert client.route.decision_id == f"d-r-{winner + 1}"
    taken = race.dispatcher.decisions.find(client.route.decision_id)
    assert taken is not None
    verdict = taken.decide()
    assert isinstance(verdict, Decision)
    assert verdict.backend == name


@pytest.mark.parametrize("last", [0, 1])
def test_the_error_names_the_decision_of_the_attempt_that_failed_last(last: int) -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    for name in (names[1 - last], names[last]):
        race.backends[name].attempts[0].sink.on_failure(Failure(FailureKind.REJECTED, "no", 400))
    assert client.error is not None
    assert client.error.decision_id == f"d-r-{last + 1}"


@pytest.mark.parametrize("who", ["first", "second", "both"])
def test_a_failure_of_one_leaves_the_other(who: str) -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    first, second = (race.backends[name].attempts[0] for name in names)
    reset = Failure(FailureKind.RESET, "connection reset")
    if who == "both":
        second.sink.on_failure(reset)
        first.sink.on_failure(reset)
        assert client.error is not None
    else:
        fails, stays = (first, second) if who == "first" else (second, first)
        fails.sink.on_failure(reset)
        assert client.error is None
        finish(stays.sink, "x")
        assert client.text == "x"
    assert race.is_empty()


def test_first_then_second_failing_ends_in_an_error() -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    for name in names:
        race.backends[name].attempts[0].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    assert client.error is not None
    assert all(name in client.error.message for name in names)
    assert race.is_empty()


def test_a_second_attempt_that_failed_keeps_no_slot() -> None:
    race = Race()
    job, _ = race.ask(prompt_bytes=1500)
    _, other = race.names(job)
    race.pass_time(10.0)
    assert race.sent() == 2
    race.backends[other].attempts[0].sink.on_failure(Failure(FailureKind.SERVER_ERROR, "x", 500))
    assert race.view(other).in_flight == 0


def test_a_second_attempt_that_could_not_be_sent_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    race = Race()
    job, client = race.ask(prompt_bytes=1500)
    first, other = race.names(job)

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(race.backends[other], "open", fail)
    race.pass_time(10.0)
    assert job.life.attempts == 2
    assert race.view(other).in_flight == 0
    finish(race.backends[first].attempts[0].sink, "x")
    assert client.text == "x"


def test_a_second_attempt_that_is_broken_off_while_it_reads_keeps_its_slot() -> None:
    race = Race()
    job, _ = race.ask(prompt_bytes=1500)
    first, other = race.names(job)
    race.pass_time(10.0)
    race.backends[first].attempts[0].sink.on_events([TextDelta("x")])
    assert race.view(other).in_flight == 1


@pytest.mark.parametrize("who", [0, 1])
def test_what_every_server_may_say_is_nobodys_fault_until_another_has_done_better(who: int) -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    told = Failure(FailureKind.SERVER_ERROR, "answered 500", 500, b'{"error":"odd"}')
    race.backends[names[who]].attempts[0].sink.on_failure(told)
    assert race.view(names[who]).health is Health.HEALTHY
    finish(race.backends[names[1 - who]].attempts[0].sink, "x")
    assert client.text == "x"
    assert race.view(names[who]).health is Health.DEGRADED


@pytest.mark.parametrize("who", [0, 1])
def test_a_prompt_that_is_too_long_for_one_of_two_is_learned(who: int) -> None:
    race = Race()
    job, client = race.ask(prompt_bytes=1500)
    names = race.names(job)
    race.pass_time(10.0)
    assert race.sent() == 2
    too_long = Failure(FailureKind.PROMPT_TOO_LONG, "the prompt is too long", 400)
    race.backends[names[who]].attempts[0].sink.on_failure(too_long)
    assert race.view(names[who]).prompt_limits
    assert race.view(names[who]).health is Health.HEALTHY
    finish(race.backends[names[1 - who]].attempts[0].sink, "x")
    assert client.text == "x"


def test_a_client_that_leaves_stops_both() -> None:
    race = Race()
    job, _ = race.ask()
    race.pass_time(1.0)
    job.cancel()
    assert all(one.attempts[0].aborted for one in race.backends.values())
    assert race.is_empty()


@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": Annotations()},
        {"stream": False},
        {"annotations": Annotations(latency_critical=True, target="a")},
    ],
)
def test_what_is_not_hedged(fields: dict[str, Any]) -> None:
    race = Race()
    race.ask(**fields)
    race.pass_time(1.0)
    assert race.sent() == 1


def test_off_means_off_and_a_cold_model_is_not_loaded_twice() -> None:
    race = Race(hedges=False)
    race.ask()
    race.pass_time(1.0)
    assert race.sent() == 1
    race = Race()
    for name in race.backends:
        race.fleet.probed(name, ProbeReport(race.view(name).models), 0)
    race.ask()
    race.pass_time(1.0)
    assert race.sent() == 1


def test_nobody_is_disturbed() -> None:
    race = Race()
    race.ask(annotations=Annotations(target="a"))
    race.ask(annotations=Annotations(target="b"))
    race.ask()
    race.pass_time(1.0)
    assert race.sent() == 3


def test_the_power_limit_holds_for_the_second_too() -> None:
    race = Race()
    spec = race.view("b").spec
    race.fleet.renew(msgspec.structs.replace(spec, power_watts=50), race.view("b").capabilities)
    race.ask(annotations=Annotations(latency_critical=True, max_power_watts=20))
    race.pass_time(1.0)
    assert race.sent() == 1


def test_the_budget_holds() -> None:
    race = Race(before=25)
    for expected in (2, 3):
        job, _ = race.ask()
        race.pass_time(1.0)
        assert race.sent() == expected
        job.cancel()


def test_a_client_that_does_not_read_is_no_reason_for_a_second_attempt() -> None:
    race = Race()
    job, _ = race.ask()
    job.pause()
    race.pass_time(1.0)
    assert race.sent() == 1
    # It is late only when nothing has come for a while that it could have read.
    job.resume()
    race.pass_time(0.1)
    assert race.sent() == 1
    race.pass_time(1.0)
    assert race.sent() == 2


@pytest.mark.parametrize("winner", [0, 1])
def test_both_wait_for_a_client_that_does_not_read(winner: int) -> None:
    race = Race()
    job, client = race.ask()
    names = race.names(job)
    race.pass_time(1.0)
    both = [race.backends[name].attempts[0] for name in names]
    job.pause()
    assert [one.paused for one in both] == [True, True]
    # Nobody is given up meanwhile, neither of the two.
    race.pass_time(600.0)
    both[1 - winner].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    race.pass_time(600.0)
    job.resume()
    assert not both[winner].paused
    race.pass_time(0.1)
    assert not both[winner].aborted
    finish(both[winner].sink, "x")
    assert client.text == "x"
    assert race.is_empty()


def test_both_are_read_again() -> None:
    race = Race()
    job, _ = race.ask()
    race.pass_time(1.0)
    job.pause()
    job.resume()
    assert not any(one.attempts[0].paused for one in race.backends.values())


def test_after_a_sleep_neither_has_been_silent() -> None:
    race = Race()
    job, _ = race.ask()
    first, second = race.names(job)
    race.pass_time(1.0)
    race.now_s += 3600.0
    race.dispatcher.forgive(3600.0)
    race.backends[first].attempts[0].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    race.pass_time(0.1)
    assert not race.backends[second].attempts[0].aborted


@given(st.lists(st.integers(0, 200), max_size=60))
def test_at_most_one_in_twenty_and_a_few(gaps: list[int]) -> None:
    budget, serial, taken = HedgeBudget(), 0, 0
    for gap in gaps:
        serial += gap
        taken += budget.take(serial)
    assert taken <= 0.05 * serial
