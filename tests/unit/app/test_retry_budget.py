"""Half of all upstream calls fail: how many there are beyond the requests, in virtual time."""

from __future__ import annotations

import random

from ollama_proxy.domain.answer import Finished
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.errors import Failure, FailureKind
from tests.unit.app.test_dispatch import MODEL, Client, ScriptedBackend, Stage

PER_S, SECONDS = 200, 30


def serve(backends: dict[str, ScriptedBackend], dice: random.Random) -> int:
    """End all that runs, half of it badly; the number of calls."""
    calls = 0
    while todo := [one for backend in backends.values() for one in backend.attempts]:
        for backend in backends.values():
            backend.attempts = []
        for attempt in todo:
            calls += 1
            if dice.random() < 0.5:
                attempt.sink.on_failure(Failure(FailureKind.SERVER_ERROR, "HTTP 503", 503))
            else:
                attempt.sink.on_end(Finished())
    return calls


def test_calls_are_at_most_a_fifth_more_than_requests_and_ten_a_second() -> None:
    stage, dice = Stage(*"abcd"), random.Random(3)
    calls, clients = 0, []
    for _ in range(SECONDS):
        for _ in range(PER_S):
            clients.append(Client())
            call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
            stage.dispatcher.submit(call, clients[-1])
            calls += serve(stage.backends, dice)
        stage.pass_time(1.0)
    requests = PER_S * SECONDS
    assert requests * 1.1 < calls <= requests * 1.2 + 10 * SECONDS
    assert all(client.outcome or client.error for client in clients)
    assert any("not tried again" in client.error.message for client in clients if client.error)
