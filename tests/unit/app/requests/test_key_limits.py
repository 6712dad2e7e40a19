"""A key's limits on requests that are under way: counted once, given back once, however a request ends."""

from __future__ import annotations

from ollama_proxy.app.requests.job import Job
from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation, RawHead, RawRequest
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.quota import Allowance, Quota
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage


def ask(
    stage: Stage, caller: Caller, model: str = MODEL, operation: Operation = Operation.GENERATE, body: bytes = b""
) -> tuple[Job, Client]:
    client = Client()
    raw = RawRequest(RawHead(b"POST", b"/api/generate", ()), body) if body else None
    call = Call("r", Dialect.OLLAMA, operation, model, True, stage.now_s, Generation, prompt_bytes=40, caller=caller)
    call.raw = raw
    return stage.dispatcher.submit(call, client), client


def told(client: Client) -> ProxyError:
    assert client.error is not None
    return client.error


def make_caller(backends: frozenset[str] | None = None, models: tuple[str, ...] = (), **limits: float) -> Caller:
    quota = Quota(Allowance(**limits)) if limits else None  # type: ignore[arg-type]
    return Caller("bob", frozenset(("infer",)), models, backends, quota)


def test_one_at_once_is_one_at_once_until_it_ends() -> None:
    stage = Stage("a")
    bob = make_caller(concurrent=1)
    ends = [
        lambda job: job.cancel(),
        lambda job: job.current.on_end(Finished("stop", Usage(10, 5))),
        lambda job: job.current.on_failure(Failure(FailureKind.REJECTED, "no", 400)),
    ]
    for end in ends:
        job, client = ask(stage, bob)
        assert client.error is None
        _, second = ask(stage, bob)
        assert told(second).kind is ErrorKind.RATE_LIMITED
        assert "1 requests at once" in told(second).message
        assert told(second).retry_after_s >= 1
        # Others are not held up.
        other, free = ask(stage, make_caller(concurrent=1))
        assert free.error is None
        other.cancel()
        end(job)
        job.cancel()
        assert bob.quota is not None
        assert bob.quota.running == 0
        assert not stage.dispatcher.running


def test_tokens_are_counted_when_they_are_known() -> None:
    stage = Stage("a")
    bob = make_caller(tokens_per_minute=100)
    ask(stage, bob)
    stage.attempt.sink.on_events([TextDelta("x")])
    stage.attempt.sink.on_end(Finished("stop", Usage(60, 45)))
    _, client = ask(stage, bob)
    error = told(client)
    assert "100 tokens a minute" in error.message
    stage.now_s += error.retry_after_s
    _, client = ask(stage, bob)
    assert client.error is None


def test_looking_at_a_model_costs_nothing() -> None:
    stage = Stage("a")
    bob = make_caller(requests_per_minute=1)
    for _ in range(5):
        job, client = ask(stage, bob, operation=Operation.SHOW)
        assert client.error is None or "requests a minute" not in client.error.message
        job.cancel()


def test_other_models_are_refused_and_never_a_substitute() -> None:
    stage = Stage("a")
    bob = make_caller(models=("nice:*", "gone:1b"))
    _, client = ask(stage, bob)
    assert told(client).kind is ErrorKind.PERMISSION_DENIED
    assert "nice:*" in told(client).message
    stage.dispatcher.substitutes = {"gone:1b": (MODEL,)}
    _, client = ask(stage, bob, "gone:1b")
    assert told(client).kind is ErrorKind.MODEL_NOT_FOUND
    _, client = ask(stage, make_caller(), "gone:1b")
    assert client.error is None


def test_only_allowed_backends_on_every_attempt() -> None:
    stage = Stage("a", "b", "c")
    bob = make_caller(frozenset(("b",)))
    job, client = ask(stage, bob)
    assert job.life.backend == "b"
    stage.attempt.sink.on_failure(Failure(FailureKind.RESET, "reset"))
    assert client.error is not None
    assert [name for name, one in stage.backends.items() if one.attempts] == ["b"]
    for name in ("a", "c"):
        assert f"{name}:" not in told(client).message


def test_a_key_that_was_revoked_meanwhile_asks_nothing_more() -> None:
    stage = Stage("a")
    bob = make_caller(concurrent=1)
    bob.is_live = False
    _, client = ask(stage, bob)
    assert told(client).kind is ErrorKind.UNAUTHENTICATED
    assert bob.quota is not None
    assert bob.quota.running == 0


def test_a_key_for_some_models_names_one_of_them_and_no_other_beside() -> None:
    stage = Stage("a")
    named = b'{"model":"%b"}' % MODEL.encode()
    twice = b'{"model":"other:1",%b' % named[1:]
    _, client = ask(stage, make_caller(models=(MODEL,)), body=twice)
    assert told(client).kind is ErrorKind.INVALID_REQUEST
    assert "more than once" in told(client).message
    for caller, body in ((make_caller(models=(MODEL,)), named), (make_caller(), twice)):
        _, client = ask(stage, caller, body=body)
        assert client.error is None
