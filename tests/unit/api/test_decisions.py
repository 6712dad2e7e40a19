"""The pages about decisions, over HTTP, asked of a dispatcher with scripted backends."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from ollama_proxy.api.decisions.routes import DecisionApi
from ollama_proxy.app.front import Front
from ollama_proxy.app.inquiry import Desk
from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.net.asgi import AsgiApp
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.origins import Origins
from ollama_proxy.routing.policies import build_policy
from ollama_proxy.routing.record import replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.support.http1 import serve
from tests.unit.app.requests.test_dispatch import MODEL, Stage

TEXT = {"Accept": "text/plain"}


def ask(
    stage: Stage, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
) -> tuple[int, str]:
    """Status and body; a body that is no bytes goes as JSON."""
    desk = Desk(stage.dispatcher, build_policy)
    front = Front([DecisionApi(desk)], cast(AsgiApp, None), lambda: "id", Origins(local_only=True))
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    found: list[str] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:1", "Connection: close", f"Content-Length: {len(sent)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        found.append((await reader.read(-1)).decode())

    serve(client, front.handle)
    head, _, text = found[0].partition("\r\n\r\n")
    return int(head.split()[1]), text


def staged(*, answered: bool = True) -> Stage:
    """One request on record, to backend a or b."""
    stage = Stage("a", "b")
    stage.submit()
    if answered:
        stage.now_s += 2
        stage.attempt.sink.on_end(Finished(usage=Usage(output_tokens=9)))
    return stage


def test_the_list_is_short_and_newest_first() -> None:
    stage = staged()
    again = Call("r2", Dialect.OLLAMA, Operation.GENERATE, "nowhere", True, stage.now_s, Generation)
    stage.dispatcher.submit(again, stage.client)
    status, text = ask(stage, "/proxy/decisions")
    newer, older = json.loads(text)["decisions"]
    assert status == 200
    assert (newer["id"], newer["result"], "backend" in newer) == ("d-r2-1", "refused", False)
    assert (older["id"], older["model"], older["result"], older["e2e_s"]) == ("d-r1-1", MODEL, "ok", 2.0)
    assert len(json.loads(ask(stage, "/proxy/decisions?limit=1")[1])["decisions"]) == 1


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "%FF", "1e2", "9" * 5000])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    status, text = ask(staged(), f"/proxy/decisions?limit={limit}&b=1")
    assert (status, "expected a number" in text) == (400, True) if limit else (200, False)


def test_one_decision_can_be_read_in_both_forms() -> None:
    stage = staged()
    status, text = ask(stage, "/proxy/decisions/d-r1-1")
    assert status == 200
    assert json.loads(text)["outcome"]["e2e_s"] == 2.0
    assert write_record(replay(read_record(text))).decode() == text.strip()
    status, told = ask(stage, "/proxy/decisions/d-r1-1", headers=TEXT)
    assert status == 200
    assert told.startswith("Decision d-r1-1, ")
    # Clients that take anything get the form for programs.
    assert ask(stage, "/proxy/decisions/d-r1-1", headers={"Accept": "application/json, text/plain, */*"})[1] == text


def test_a_decision_that_is_not_there() -> None:
    for path in ("/proxy/decisions/d-r9-1", "/proxy/decisions/%ff%0d"):
        status, text = ask(staged(), path)
        assert status == 404
        assert "only the latest of your own are kept" in json.loads(text)["error"]
    assert ask(staged(), "/proxy/decisions", {}, method="POST")[0] == 405


def test_a_decision_is_its_callers_and_who_runs_the_proxy_sees_all() -> None:
    stage = Stage("a")
    bob, eve, boss = (
        Caller(name, frozenset((may,))) for name, may in zip("bex", ("infer", "infer", "admin"), strict=True)
    )
    # Ids are the clients' own to choose, so two may have the same one.
    for caller, model in ((bob, MODEL), (bob, "nowhere"), (eve, "elsewhere")):
        call = Call(model, Dialect.OLLAMA, Operation.GENERATE, model, True, stage.now_s, Generation, caller=caller)
        call.request_id = "same" if model != MODEL else "first"
        stage.dispatcher.submit(call, stage.client)
    desk = Desk(stage.dispatcher, build_policy)

    def model_of(ident: str, caller: Caller) -> str | None:
        account = desk.find_decision(ident, caller)
        return None if account is None else str(read_record(account.as_json().decode()).request.requested_model)

    assert [model_of("d-first-1", one) for one in (bob, eve, boss, ANYBODY)] == [MODEL, None, MODEL, MODEL]
    assert [model_of("d-same-1", one) for one in (bob, eve, boss)] == ["nowhere", "elsewhere", "elsewhere"]


def test_what_if_sends_nothing_and_leaves_nothing_on_record() -> None:
    stage = Stage("a", "b")
    status, text = ask(stage, "/proxy/decide", {"model": MODEL, "prompt": "é" * 50})
    record = read_record(text)
    assert status == 200
    assert record.verdict.backend in ("a", "b")
    assert record.request.prompt_tokens == pytest.approx(100 * 0.27)
    assert not any(backend.attempts for backend in stage.backends.values())
    assert len(stage.dispatcher.decisions) == 0
    assert "Supposed, not sent" in ask(stage, "/proxy/decide", {"model": MODEL}, TEXT)[1]


def test_what_if_decides_as_the_same_request_would_be() -> None:
    stage = Stage("a", "b")
    stage.submit()  # one of the two has something to do
    supposed = read_record(ask(stage, "/proxy/decide", {"model": MODEL})[1])
    stage.submit()
    sent = stage.dispatcher.decisions.latest(1)[0].make_record()
    assert supposed.verdict == sent.verdict


def test_what_if_somebody_were_not_there() -> None:
    stage = Stage("a", "b")
    for name, other in (("a", "b"), ("b", "a")):
        record = read_record(ask(stage, "/proxy/decide", {"model": MODEL, "without": [name]})[1])
        assert record.verdict.backend == other
        assert record.supposed.endswith(f"without {name}")
    record = read_record(ask(stage, "/proxy/decide", {"model": MODEL, "without": ["a", "b"]})[1])
    assert record.verdict.refusal is not None


def test_what_if_there_were_limits_wishes_and_another_mode() -> None:
    stage = Stage("a", "b")
    capped = read_record(ask(stage, "/proxy/decide", {"model": MODEL, "cap_watts": 5})[1])
    assert [one.limit.value for one in capped.verdict.rejections] == ["over the power limit"] * 2
    wishes = {"annotations": {"latency_critical": True}, "model": MODEL}
    assert read_record(ask(stage, "/proxy/decide", wishes)[1]).verdict.lambda_watts == 100
    header = read_record(ask(stage, "/proxy/decide", {"model": MODEL}, {"X-Power-Efficient": "true"})[1])
    assert header.verdict.lambda_watts == 1
    mode = read_record(ask(stage, "/proxy/decide", {"model": MODEL, "mode": "performance"})[1])
    assert (mode.policy.name, mode.verdict.lambda_watts) == ("Performance", 50)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "missing request body"),
        (b"{", "invalid JSON"),
        (b"[" * 5000, "invalid"),
        (b'{"model": "\xff"}', "invalid"),
        ({}, "model"),
        ({"model": " "}, "model is required"),
        ({"model": 1}, "model"),
        ({"model": MODEL, "without": ["c"]}, "there is no backend 'c'"),
        ({"model": MODEL, "mode": "Loud"}, "unknown mode"),
        ({"model": MODEL, "cap_watts": -1}, "max_power_watts"),
        ({"model": MODEL, "prompt_bytes": -1}, "prompt_bytes"),
        ({"model": MODEL, "annotations": {"priority": "never"}}, "priority"),
    ],
)
def test_questions_that_make_no_sense(body: Any, words: str) -> None:
    status, text = ask(Stage("a"), "/proxy/decide", body, method="POST")
    assert status == 400
    assert words in json.loads(text)["error"]
