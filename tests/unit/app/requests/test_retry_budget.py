"""Half of all upstream calls fail: how many there are beyond the requests, in virtual time."""

from __future__ import annotations

import random

import pytest

from ollama_proxy.domain.answer import Finished
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.errors import Failure, FailureKind
from tests.unit.app.requests.test_dispatch import MODEL, Client, ScriptedBackend, Stage

PER_S, SECONDS = 200, 30


def serve(backends: dict[str, ScriptedBackend], dice: random.Random, *, lost: bool = False) -> int:
    """End all that runs, half of it badly, for loss of the connection if `lost`; the number of calls."""
    calls = 0
    while todo := [one for backend in backends.values() for one in backend.attempts]:
        for backend in backends.values():
            backend.attempts = []
        for attempt in todo:
            calls += 1
            if dice.random() < 0.5:
                if lost and attempt.sink.may_resend():
                    assert not attempt.sink.may_resend()
                    calls += 1
                    if dice.random() < 0.5:
                        attempt.sink.on_end(Finished())
                        continue
                attempt.sink.on_failure(Failure(FailureKind.SERVER_ERROR, "HTTP 503", 503))
            else:
                attempt.sink.on_end(Finished())
    return calls


@pytest.mark.parametrize("lost", [False, True])
def test_calls_are_at_most_a_fifth_more_than_requests_and_ten_a_second(lost: bool) -> None:
    stage, dice = Stage(*"abcd"), random.Random(3)
    calls, clients = 0, []
    for _ in range(SECONDS):
        for _ in range(PER_S):
            clients.append(Client())
            call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
            stage.dispatcher.submit(call, clients[-1])
            calls += serve(stage.backends, dice, lost=lost)
        stage.pass_time(1.0)
    requests = PER_S * SECONDS
    assert requests * 1.1 < calls <= requests * 1.2 + 10 * SECONDS
    assert all(client.outcome or client.error for client in clients)
    assert any("not tried again" in client.error.message for client in clients if client.error)


def test_a_request_that_was_sent_again_has_an_attempt_less() -> None:
    stage, client = Stage(*"abcd"), Client()
    call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
    stage.dispatcher.submit(call, client)
    asked = 0
    while todo := [one for backend in stage.backends.values() for one in backend.attempts]:
        for backend in stage.backends.values():
            backend.attempts = []
        (attempt,) = todo
        asked += 1 + attempt.sink.may_resend()
        attempt.sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    assert client.error is not None
    assert asked == 3


def test_the_breaker_counts_what_a_backend_lost_twice() -> None:
    stage = Stage(*"ab")
    asked, preferred = 0, ""
    for number in range(20):
        call = Call(f"r{number}", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
        stage.dispatcher.submit(call, Client())
        preferred = preferred or next(name for name, backend in stage.backends.items() if backend.attempts)
        for name in sorted(stage.backends, key=lambda name: name != preferred):
            for attempt in stage.backends[name].attempts:
                if name == preferred:
                    asked += 1 + attempt.sink.may_resend()
                    attempt.sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
                else:
                    attempt.sink.on_end(Finished())
            stage.backends[name].attempts = []
    assert 2 <= asked <= 6


def test_a_request_that_may_not_be_tried_elsewhere_may_be_sent_again() -> None:
    stage = Stage(*"ab")
    stage.dispatcher.max_attempts = 1
    call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
    stage.dispatcher.submit(call, Client())
    (attempt,) = [one for backend in stage.backends.values() for one in backend.attempts]
    assert attempt.sink.may_resend()
