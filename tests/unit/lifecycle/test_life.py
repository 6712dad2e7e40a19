"""One request's life as playbooks, and the error that each bad end becomes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.decision import Limit, Refusal, RefusalKind, Rejection
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.lifecycle.errors import error_of_failures, error_of_refusal
from ollama_proxy.lifecycle.life import MAX_ATTEMPTS, Life, State

RETRYABLE = [kind for kind in FailureKind if kind.retryable]


def failure(kind: FailureKind, **fields: object) -> Failure:
    return Failure(kind, f"it was {kind.value}", **fields)  # type: ignore[arg-type]


def refusal(kind: RefusalKind = RefusalKind.NO_HEALTHY, *rejections: Rejection) -> Refusal:
    return Refusal(kind, f"nobody: {kind.value}", rejections, 1)


# -- playbooks -------------------------------------------------------------------


def test_straight_through() -> None:
    life = Life()
    assert life.state is State.DECIDING
    life.opened("a")
    assert (life.state, life.attempts, life.backend, life.tried) == (State.WAITING, 1, "a", frozenset({"a"}))
    life.first_byte()
    assert life.state is State.STREAMING
    life.ended()
    assert life.state is State.OVER
    assert not life.left()


@pytest.mark.parametrize("kind", RETRYABLE)
def test_before_the_first_byte_another_is_tried(kind: FailureKind) -> None:
    life = Life()
    life.opened("a")
    assert life.failed(failure(kind)) is None
    assert life.state is State.DECIDING
    assert life.tried == {"a"}
    life.opened("b")
    assert (life.attempts, life.tried) == (2, frozenset({"a", "b"}))


@pytest.mark.parametrize("kind", list(FailureKind))
def test_after_the_first_byte_never(kind: FailureKind) -> None:
    life = Life()
    life.opened("a")
    life.first_byte()
    error = life.failed(failure(kind))
    assert isinstance(error, ProxyError)
    assert error.backend == "a"
    assert life.state is State.OVER


def test_three_attempts_and_no_more() -> None:
    life = Life()
    for name in ("a", "b"):
        life.opened(name)
        assert life.failed(failure(FailureKind.RESET)) is None
    life.opened("c")
    error = life.failed(failure(FailureKind.TIMEOUT))
    assert error is not None
    assert (error.kind, error.backend) == (ErrorKind.BACKEND_FAILED, "c")
    assert error.message.endswith("; c: it was timeout")
    assert life.attempts == MAX_ATTEMPTS == 3


def test_a_request_that_is_itself_at_fault_ends_at_once() -> None:
    life = Life()
    life.opened("a")
    error = life.failed(failure(FailureKind.REJECTED, status=422, body=b"{}", content_type=b"application/json"))
    assert error is not None
    assert error.kind is ErrorKind.BACKEND_REFUSED
    assert (error.status, error.body, error.content_type) == (422, b"{}", b"application/json")
    assert error.message == "it was request rejected"


@pytest.mark.parametrize("first", ["too long", "down"])
def test_a_prompt_that_is_too_long_is_the_clients_only_where_all_say_so(first: str) -> None:
    long = failure(FailureKind.PROMPT_TOO_LONG, status=400, body=b"{}", content_type=b"application/json")
    down = failure(FailureKind.RESET)
    mixed, all_long = Life(), Life()
    for one in (long, down) if first == "too long" else (down, long):
        mixed.opened(one.kind.value)
        assert mixed.failed(one) is None
    assert mixed.refused(refusal()).kind is ErrorKind.BACKEND_FAILED
    for name in ("a", "b"):
        all_long.opened(name)
        assert all_long.failed(long) is None
    error = all_long.refused(refusal())
    assert (error.kind, error.status, error.body) == (ErrorKind.BACKEND_REFUSED, 400, b"{}")


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_nobody_from_the_start_is_the_refusals_own_sentence(kind: RefusalKind) -> None:
    life = Life()
    error = life.refused(refusal(kind))
    assert error.message == f"nobody: {kind.value}"
    assert life.state is State.OVER


def test_nobody_after_a_failure_tells_the_failure() -> None:
    life = Life()
    life.opened("a")
    assert life.failed(failure(FailureKind.SERVER_ERROR, status=503)) is None
    error = life.refused(refusal(RefusalKind.NO_HEALTHY, Rejection("b", Limit.UNHEALTHY, "connection refused")))
    assert error.kind is ErrorKind.BACKEND_FAILED
    assert error.message == "no backend could answer: a: it was server error; b: connection refused"
    assert error.status == 0  # a 5xx of a backend is not the client's


def test_the_client_may_leave_at_any_time_and_once() -> None:
    for steps in range(3):
        life = Life()
        if steps > 0:
            life.opened("a")
        if steps > 1:
            life.first_byte()
        assert life.left()
        assert not life.left()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*FailureKind, "byte", "end", "leave", "refuse"]), max_size=12))
def test_any_playbook_ends_once_with_one_error_at_most(events: list[FailureKind | str]) -> None:
    """Drive the machine as its owner does: only with events that its state allows."""
    life, errors, streamed = Life(), [], False
    names = iter("abcdefghijklm")
    for event in events:
        if life.state is State.OVER:
            break
        if life.state is State.DECIDING:
            if event == "refuse":
                errors.append(life.refused(refusal()))
                continue
            life.opened(next(names))
        if event == "byte":
            life.first_byte()
            streamed = True
        elif event == "end":
            life.ended()
        elif event == "leave":
            assert life.left()
        elif isinstance(event, FailureKind):
            before = life.attempts
            error = life.failed(failure(event))
            if error is not None:
                errors.append(error)
            else:
                assert not streamed
                assert event.retryable
                assert before < MAX_ATTEMPTS
    assert len(errors) <= 1
    assert not errors or life.state is State.OVER
    assert life.attempts == len(life.tried) <= MAX_ATTEMPTS


@pytest.mark.parametrize("kind", RETRYABLE)
def test_without_a_budget_an_attempt_that_cost_work_is_the_last_and_says_so(kind: FailureKind) -> None:
    life = Life()
    life.opened("a")
    error = life.failed(failure(kind, status=503, body=b"{}", retry_after_s=0.1), may_retry=False)
    if kind in (FailureKind.REFUSED, FailureKind.UNREACHABLE):
        assert error is None
        return
    assert error is not None
    assert "not tried again, since too much is: 20% of requests and 10 a second are the limit" in error.message
    assert (error.status, error.body, error.retry_after_s) == (0, b"", 1.0)
    assert life.state is State.OVER


# -- errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected", "status"),
    [
        (RefusalKind.UNKNOWN_TARGET, ErrorKind.INVALID_REQUEST, 400),
        (RefusalKind.NO_HEALTHY, ErrorKind.NO_HEALTHY_BACKEND, 503),
        (RefusalKind.MODEL_NOWHERE, ErrorKind.MODEL_NOT_FOUND, 404),
        (RefusalKind.LIMITS, ErrorKind.LIMITS_EXCLUDE_ALL, 400),
    ],
)
def test_refusals(kind: RefusalKind, expected: ErrorKind, status: int) -> None:
    error = error_of_refusal(refusal(kind))
    assert (error.kind, error.kind.http_status) == (expected, status)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FailureKind.RATE_LIMITED, ErrorKind.RATE_LIMITED),
        (FailureKind.MODEL_MISSING, ErrorKind.MODEL_NOT_FOUND),
        (FailureKind.REFUSED, ErrorKind.BACKEND_FAILED),
        (FailureKind.UNREACHABLE, ErrorKind.BACKEND_FAILED),
        (FailureKind.TIMEOUT, ErrorKind.BACKEND_FAILED),
        (FailureKind.RESET, ErrorKind.BACKEND_FAILED),
        (FailureKind.SERVER_ERROR, ErrorKind.BACKEND_FAILED),
        (FailureKind.GARBAGE, ErrorKind.BACKEND_FAILED),
        (FailureKind.CUT, ErrorKind.BACKEND_FAILED),
        (FailureKind.REJECTED, ErrorKind.BACKEND_REFUSED),
    ],
)
def test_failures(kind: FailureKind, expected: ErrorKind) -> None:
    error = error_of_failures([("a", failure(kind, retry_after_s=7.0))])
    assert error.kind is expected
    assert error.backend == "a"
    assert f"it was {kind.value}" in error.message
    if kind is not FailureKind.REJECTED:
        assert error.retry_after_s == 7.0


def test_every_failure_has_an_error() -> None:
    for kind in FailureKind:
        assert error_of_failures([("a", failure(kind))]).kind.http_status >= 400


def test_those_that_were_not_meant_are_not_told() -> None:
    told = refusal(
        RefusalKind.LIMITS,
        Rejection("b", Limit.NOT_TARGET, "is not a"),
        Rejection("c", Limit.UNHEALTHY, "timeout"),
        Rejection("a", Limit.TRIED, "already tried"),
    )
    assert error_of_failures([("a", failure(FailureKind.RESET))], told).message == (
        "no backend could answer: a: it was connection reset; c: timeout"
    )


def test_nobody_answering_within_a_power_limit_is_the_limits_doing() -> None:
    told = refusal(RefusalKind.LIMITS, Rejection("b", Limit.POWER, "draws 55.0 W, limit 15 W"))
    error = error_of_failures([("a", failure(FailureKind.REFUSED))], told)
    assert error.kind is ErrorKind.LIMITS_EXCLUDE_ALL
    assert "b: draws 55.0 W, limit 15 W" in error.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FailureKind.RATE_LIMITED, ErrorKind.RATE_LIMITED),
        (FailureKind.SERVER_ERROR, ErrorKind.BACKEND_FAILED),
        (FailureKind.TIMEOUT, ErrorKind.BACKEND_FAILED),
    ],
)
def test_a_passing_trouble_within_a_power_limit_stays_one(kind: FailureKind, expected: ErrorKind) -> None:
    """The device within the limit is there and busy: asking again later is right, a 400 tells clients not to."""
    told = refusal(RefusalKind.LIMITS, Rejection("b", Limit.POWER, "draws 55.0 W, limit 15 W"))
    assert error_of_failures([("a", failure(kind, retry_after_s=3.0))], told).kind is expected


def test_three_refused_connections_do_not_prove_that_nobody_is_healthy() -> None:
    """Four backends, three down since the last probe: the fourth was not asked, and nothing says it is down."""
    life = Life()
    for name in ("a", "b", "c"):
        life.opened(name)
        error = life.failed(failure(FailureKind.REFUSED))
    assert error is None or not error.message.startswith("No healthy backends available")


def test_others_that_are_well_but_lack_the_model_are_not_called_unhealthy() -> None:
    told = refusal(RefusalKind.MODEL_NOWHERE, Rejection("b", Limit.MODEL_MISSING, "has no model m:1b"))
    error = error_of_failures([("a", failure(FailureKind.REFUSED))], told)
    assert not error.message.startswith("No healthy backends available")


def test_every_attempt_that_failed_is_told_with_its_reason() -> None:
    life = Life()
    life.opened("a")
    life.failed(Failure(FailureKind.SERVER_ERROR, "HTTP 500: out of memory"))
    life.opened("b")
    life.failed(Failure(FailureKind.RESET, "connection reset"))
    error = life.refused(refusal(RefusalKind.NO_HEALTHY, Rejection("a", Limit.TRIED, "already tried")))
    assert "out of memory" in error.message
