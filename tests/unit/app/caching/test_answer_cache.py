"""Requests that use the cache: what is found, what is made once, what is kept; over a scripted backend."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
import pytest

from ollama_proxy.app.caching.answer_cache import AnswerCache
from ollama_proxy.app.caching.books import CacheBooks
from ollama_proxy.app.caching.meaning import MeaningCache
from ollama_proxy.app.process.pressure import Stage as Shedding
from ollama_proxy.cache.key import Weights, find_key
from ollama_proxy.cache.memory import MemoryStore
from ollama_proxy.cache.store import Bounds
from ollama_proxy.config.sections.cache import Cache, Semantic
from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Message, Operation, RawHead, RawRequest, Sampling
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.ports import ProbeReport, Ticket
from ollama_proxy.domain.quota import Allowance, Quota
from ollama_proxy.domain.vectors import Embedder, EmbedWish, Vectors, VectorSpace
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.observability.logs import RequestLog
from tests.support.http1 import until
from tests.unit.app.requests.test_dispatch import MODEL, Client, ScriptedAttempt, Stage

ASKS = Annotations(cache_enabled=True)
COLD = Sampling(temperature=0.0)


class Reader(Client):
    """Keeps events and the order in which things came."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[AnswerEvent] = []

    def send_events(self, events: Any) -> None:
        assert self.route is not None
        assert self.outcome is None
        super().send_events(events)
        self.events += events

    @property
    def state(self) -> str | None:
        return self.route.cache.state if self.route is not None and self.route.cache is not None else None


class Scene:
    """A dispatcher with a cache before it."""

    def __init__(self, settings: Cache | None = None, *names: str) -> None:
        self.stage = Stage(*(names or ("a",)))
        self.unix_s = 1_800_000_000.0
        self.rows: list[LedgerRow] = []
        dispatcher = self.stage.dispatcher
        self.books = CacheBooks(dispatcher.books, dispatcher.decisions, self.rows.append, lambda: self.unix_s)
        self.store = MemoryStore(Bounds(1_000_000, 3600.0), lambda: self.unix_s)
        self.settings = settings or Cache()
        self.cache = AnswerCache(self.store, self.settings, dispatcher, self.books)
        self.serial = 0

    def ask(
        self,
        prompt: str = "Why?",
        *,
        stream: bool = True,
        sampling: Sampling = COLD,
        annotations: Annotations = ASKS,
        dialect: Dialect = Dialect.COMPUTE,
        **fields: Any,
    ) -> tuple[Ticket, Reader]:
        self.serial += 1
        generation = fields.pop("generation", Generation(prompt, sampling=sampling))
        call = Call(
            f"r{self.serial}",
            dialect,
            fields.pop("operation", Operation.GENERATE),
            fields.pop("model", MODEL),
            stream,
            self.stage.now_s,
            lambda: generation,
            annotations,
            prompt_bytes=len(prompt),
            **fields,
        )
        reader = Reader()
        if self.cache.is_asked(call):
            return self.cache.submit(call, reader), reader
        return self.stage.dispatcher.submit(call, reader), reader

    @property
    def attempts(self) -> list[ScriptedAttempt]:
        return [one for backend in self.stage.backends.values() for one in backend.attempts]

    def answer(self, *events: AnswerEvent, finished: Finished | None = None) -> None:
        """The attempt that runs tells its answer."""
        sink = self.attempts[-1].sink
        self.stage.now_s += 2.0
        sink.on_events(list(events) or [TextDelta("Be"), TextDelta("cause.")])
        sink.on_end(finished or Finished("stop", Usage(3, 2, 10**9, None, 10**8, 10**9)))

    def count(self) -> dict[str, int]:
        found = self.books.count()["requests"]
        assert isinstance(found, dict)
        return found


def test_the_same_request_is_answered_from_the_cache() -> None:
    scene = Scene()
    _, first = scene.ask()
    assert first.route is None
    scene.answer()
    assert (first.text, first.state) == ("Because.", "miss")
    scene.unix_s += 12.0
    ticket, second = scene.ask(stream=False)
    assert len(scene.attempts) == 1
    assert (second.text, second.state) == ("Because.", "hit")
    assert second.route is not None
    assert dict(second.route.headers())["X-Cache-Age"] == "12"
    assert "12 s ago" in second.route.reason
    assert second.outcome is not None
    assert second.outcome.finished == Finished("stop", Usage(3, 2))
    assert (second.outcome.joules, second.outcome.output_tokens) == (0.0, 2)
    ticket.cancel()
    ticket.pause()
    ticket.resume()
    assert not scene.stage.dispatcher.running


def test_what_it_saved_is_in_the_ledger_and_on_record() -> None:
    scene, ann = Scene(), Caller("ann")
    _, first = scene.ask(caller=ann)
    scene.answer()
    assert first.outcome is not None
    assert first.outcome.joules == pytest.approx(20.0)
    _, second = scene.ask(caller=ann)
    [row] = scene.rows
    assert (row.backend, row.marginal_j, row.static_j, row.kind) == ("cache", 0.0, first.outcome.joules, "modelled")
    assert scene.books.count()["saved_joules"] == {"modelled": pytest.approx(20.0)}
    assert second.route is not None
    assert first.route is not None
    find = scene.stage.dispatcher.decisions.find_served
    served = find(second.route.decision_id)
    assert served is not None
    assert find(second.route.decision_id, "ann") is served
    assert find(second.route.decision_id, "eve") is None
    assert served.made_by == first.route.decision_id


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"prompt": "Why!"}, id="prompt"),
        pytest.param({"sampling": Sampling(temperature=0.0, seed=1)}, id="seed"),
        pytest.param({"sampling": Sampling(temperature=0.0, num_predict=5)}, id="length"),
        pytest.param({"sampling": Sampling(temperature=0.0, top_p=0.5)}, id="top_p"),
        pytest.param({"sampling": Sampling(temperature=0.0, extra={"mirostat": 2})}, id="another option"),
        pytest.param({"generation": Generation("Why?", system="Be brief.", sampling=COLD)}, id="system"),
        pytest.param({"generation": Generation("Why?", images=("aGk=",), sampling=COLD)}, id="image"),
        pytest.param({"generation": Generation("Why?", format="json", sampling=COLD)}, id="format"),
        pytest.param({"generation": Generation("Why?", tools=({"type": "function"},), sampling=COLD)}, id="tools"),
        pytest.param({"operation": Operation.CHAT}, id="operation"),
        pytest.param({"model": "n:1b"}, id="model"),
        pytest.param({"caller": Caller("ann")}, id="tenant"),
        pytest.param({"caller": Caller("", frozenset({"infer"}))}, id="role"),
    ],
)
def test_another_request_is_not(other: dict[str, Any]) -> None:
    scene = Scene()
    found = {MODEL: ModelFacts(MODEL), "n:1b": ModelFacts("n:1b")}
    scene.stage.fleet.probed("a", ProbeReport(found, frozenset(found)), 0)
    scene.ask()
    scene.answer()
    _, reader = scene.ask(**other)
    assert len(scene.attempts) == 2
    scene.answer(TextDelta("Another."))
    assert reader.text == "Another."


def test_another_digest_is_another_model() -> None:
    scene = Scene()

    def install(digest: str) -> None:
        report = ProbeReport({MODEL: ModelFacts(MODEL, digest)}, frozenset({MODEL}))
        scene.stage.fleet.probed("a", report, 0)

    install("one")
    scene.ask()
    scene.answer()
    install("two")
    scene.ask()
    assert len(scene.attempts) == 2
    install("one")
    scene.answer()
    install("two")
    assert scene.ask()[1].text == "", "it was exchanged while it wrote"
    install("one")
    assert scene.ask()[1].state == "hit"


def test_what_came_from_elsewhere_is_not_kept_as_the_targets() -> None:
    scene = Scene(None, "a", "b")
    for name in ("a", "b"):
        report = ProbeReport({MODEL: ModelFacts(MODEL, f"of {name}")}, frozenset({MODEL}))
        scene.stage.fleet.probed(name, report, 0)
    wish = Annotations(cache_enabled=True, target="a")
    scene.stage.fleet.probe_failed("a", "down", 0, hard=True)
    _, reader = scene.ask(annotations=wish)
    scene.answer()
    assert reader.route is not None
    assert reader.route.backend == "b"
    assert scene.ask(annotations=wish)[1].state is None, "it is asked for again"


def test_equal_requests_at_once_are_answered_once_and_live() -> None:
    scene = Scene()
    readers = [scene.ask()[1] for _ in range(500)]
    assert len(scene.attempts) == 1
    sink = scene.attempts[0].sink
    sink.on_events([TextDelta("Be")])
    readers += [scene.ask()[1] for _ in range(500)]
    assert {reader.text for reader in readers} == {"Be"}
    sink.on_events([TextDelta("cause.")])
    sink.on_end(Finished("stop", Usage(3, 2)))
    assert len(scene.attempts) == 1
    assert {reader.text for reader in readers} == {"Because."}
    assert all(reader.outcome is not None for reader in readers)
    assert [reader.state for reader in readers].count("miss") == 1
    assert scene.count() == {"hit": 0, "similar": 0, "joined": 999, "miss": 1, "bypass": 0}
    assert sum(bool(reader.outcome and reader.outcome.joules) for reader in readers) <= 1


def test_one_that_leaves_does_not_stop_the_others_and_the_last_does() -> None:
    scene = Scene()
    first, gone = scene.ask()
    second, reader = scene.ask()
    third, _ = scene.ask()
    first.cancel()
    third.cancel()
    third.cancel()
    assert not scene.attempts[0].aborted
    scene.attempts[0].sink.on_events([TextDelta("Be")])
    assert (gone.text, reader.text) == ("", "Be")
    second.cancel()
    assert scene.attempts[0].aborted
    assert not scene.stage.dispatcher.running
    scene.ask()
    assert len(scene.attempts) == 2, "what was given up is begun anew"


def test_a_slow_reader_holds_up_nobody() -> None:
    scene = Scene()
    paused: list[bool] = []
    slow, late = scene.ask()
    other, reader = scene.ask()
    attempt = scene.attempts[0]
    attempt.pause = lambda: paused.append(True)  # type: ignore[method-assign]
    attempt.resume = lambda: paused.append(False)  # type: ignore[method-assign]
    slow.pause()
    attempt.sink.on_events([TextDelta("Be")])
    assert (late.text, reader.text, paused) == ("", "Be", [])
    other.pause()
    assert paused == [True]
    other.resume()
    assert paused == [True, False]
    scene.answer(TextDelta("cause."))
    assert reader.text == "Because."
    assert late.outcome is None
    slow.resume()
    assert (late.text, late.outcome is not None) == ("Because.", True)


def test_of_a_very_long_answer_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_proxy.cache.single_flight.MOST_CHARS", 100)
    scene = Scene()
    _, first = scene.ask()
    slow, late = scene.ask()
    sink = scene.attempts[0].sink
    sink.on_events([TextDelta("a" * 60)])
    slow.pause()
    sink.on_events([TextDelta("b" * 60)])
    _, third = scene.ask()
    assert len(scene.attempts) == 2, "nobody can join it"
    assert late.text == "a" * 60
    slow.resume()
    sink.on_events([TextDelta("c")])
    sink.on_events([TextDelta("d")])
    assert first.text == late.text == "a" * 60 + "b" * 60 + "cd"
    sink.on_end(Finished("stop", Usage(3, 2)))
    assert late.outcome is not None
    scene.answer()
    assert third.text == "Because."
    assert scene.ask()[1].text == "Because.", "the long one is not kept, the other is"


def test_each_leaves_one_line_however_it_ends() -> None:
    scene = Scene()
    stream = io.StringIO()
    scene.stage.dispatcher.books._log = RequestLog(stream)

    async def play() -> None:
        tickets = [scene.ask()[0] for _ in range(4)]
        tickets[0].cancel()
        tickets[1].cancel()
        scene.answer()
        scene.ask()
        for _ in range(3):
            scene.ask("Whence?")
        scene.attempts[-1].sink.on_failure(Failure(FailureKind.REJECTED, "no", 400))
        last = [scene.ask("Whither?")[0] for _ in range(2)]
        for ticket in last:
            ticket.cancel()
        scene.stage.dispatcher.books._log.flush()

    asyncio.run(play())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = sorted((one["request_id"], one["result"]) for one in lines)
    # The work goes on for the others when the first leaves, and is its line.
    assert found == [
        ("r1", "ok"),
        ("r10", "left"),
        ("r2", "left"),
        ("r3", "ok"),
        ("r4", "ok"),
        ("r5", "ok"),
        ("r6", "failed"),
        ("r7", "failed"),
        ("r8", "failed"),
        ("r9", "left"),
    ]


def test_one_whose_connection_trips_does_not_stop_the_others() -> None:
    class Broken(Reader):
        def send_events(self, events: Any) -> None:
            raise RuntimeError("no room")

    scene = Scene()
    scene.ask()
    call = Call(
        "x", Dialect.COMPUTE, Operation.GENERATE, MODEL, True, 0.0, lambda: Generation("Why?", sampling=COLD), ASKS
    )
    call.prompt_bytes = 4
    broken = Broken()
    scene.cache.submit(call, broken)
    _, reader = scene.ask()
    scene.answer()
    assert reader.text == "Because."
    assert broken.error is not None
    assert broken.error.kind is ErrorKind.INTERNAL


def test_a_stream_does_not_wait_for_an_answer_that_comes_whole() -> None:
    scene = Scene()
    scene.ask(stream=False)
    scene.ask(stream=True)
    assert len(scene.attempts) == 2
    scene.ask(stream=False)
    assert len(scene.attempts) == 2


@pytest.mark.parametrize(
    "wish",
    [
        {"target": "a"},
        {"max_latency_ms": 900_000},
        {"latency_probability": 0.9},
        {"latency_metric": "ttft"},
        {"on_infeasible": "reject"},
        {"max_power_watts": 500.0},
        {"power_scope": "system"},
        {"priority": Priority.REALTIME},
        {"latency_critical": True},
        {"prefer_power_efficiency": True},
        {"media_type": "code"},
        {"continuation": "never"},
        {"cache_semantic": False},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_whoever_wishes_otherwise_does_not_wait_for_the_same_answer(wish: dict[str, Any]) -> None:
    scene = Scene()
    scene.stage.fleet.probed("a", ProbeReport({MODEL: ModelFacts(MODEL, "one")}, frozenset({MODEL})), 0)
    wishes = msgspec.structs.replace(ASKS, **wish)
    _, first = scene.ask()
    _, equal = scene.ask()
    _, other = scene.ask(annotations=wishes)
    assert len(scene.attempts) == 2
    _, same = scene.ask(annotations=msgspec.structs.replace(wishes, custom={"trace": "17"}))
    assert len(scene.attempts) == 2
    scene.answer()
    assert (other.text, same.text) == ("Because.", "Because.")
    assert (first.route, equal.route) == (None, None)
    assert scene.ask()[1].state == "hit", "what is kept is for all, though one like it is under way"
    scene.attempts[0].sink.on_events([TextDelta("Therefore.")])
    assert (first.text, equal.text) == ("Therefore.", "Therefore.")


def test_another_name_for_the_same_weights_does_not_wait_for_the_same_answer() -> None:
    scene = Scene()
    found = {MODEL: ModelFacts(MODEL, "one"), "n:1b": ModelFacts("n:1b", "one")}
    scene.stage.fleet.probed("a", ProbeReport(found, frozenset(found)), 0)
    scene.ask()
    scene.ask(model="n:1b")
    assert len(scene.attempts) == 2
    scene.answer()
    assert scene.ask()[1].state == "hit"


def test_those_that_heard_nothing_of_a_failed_answer_get_another_once() -> None:
    scene = Scene()

    async def play() -> tuple[list[Reader], list[Reader]]:
        scene.ask()
        readers = [scene.ask()[1] for _ in range(20)]
        gone, _ = scene.ask()
        slow, late = scene.ask()
        slow.pause()
        fail(scene)
        gone.cancel()
        await until(lambda: len(scene.attempts) == 2)
        scene.answer()
        assert late.route is None
        slow.resume()
        tried_once = [scene.ask("Whence?")[1] for _ in range(3)]
        fail(scene)
        await until(lambda: len(scene.attempts) == 4)
        fail(scene)
        await asyncio.sleep(0)
        return [*readers, late], tried_once

    readers, tried_once = asyncio.run(play())
    assert {reader.text for reader in readers} == {"Because."}
    assert [reader.state for reader in readers] == ["miss"] + ["hit"] * 20
    assert all(reader.error is not None for reader in tried_once)
    assert len(scene.attempts) == 4
    assert not scene.stage.dispatcher.running


def fail(scene: Scene) -> None:
    """The attempt that runs fails before it has told anything."""
    scene.attempts[-1].sink.on_failure(Failure(FailureKind.SERVER_ERROR, "out of memory", 500))


def test_nothing_is_made_again_for_those_that_have_left() -> None:
    scene = Scene()

    async def play() -> None:
        scene.ask()
        tickets = [scene.ask()[0] for _ in range(2)]
        fail(scene)
        for ticket in tickets:
            ticket.cancel()
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert len(scene.attempts) == 1
    assert not scene.stage.dispatcher.running


@pytest.mark.parametrize(
    ("events", "finished"),
    [
        pytest.param([TextDelta("x")], Finished("content_filter"), id="filtered"),
        pytest.param([TextDelta("x")], Finished("tool_calls"), id="a call that never came"),
        pytest.param([TextDelta("x")], Finished("load"), id="loaded"),
        pytest.param([TextDelta("x", ({"token": "x"},))], Finished("stop"), id="probabilities"),
    ],
)
def test_such_an_answer_is_not_kept(events: list[AnswerEvent], finished: Finished) -> None:
    scene = Scene()
    scene.ask()
    scene.answer(*events, finished=finished)
    scene.ask()
    assert len(scene.attempts) == 2


def test_a_broken_answer_is_told_to_all_and_not_kept() -> None:
    scene = Scene()
    readers = [scene.ask()[1] for _ in range(3)]
    sink = scene.attempts[0].sink
    sink.on_events([TextDelta("Be")])
    sink.on_failure(Failure(FailureKind.CUT, "cut"))
    assert all(reader.error is not None and reader.text == "Be" for reader in readers)
    scene.ask()
    assert len(scene.attempts) == 2
    assert scene.books.count()["saved_joules"] == {}


def test_thinking_and_calls_come_back_as_they_were() -> None:
    scene = Scene()
    scene.ask()
    events = [
        ThinkingDelta("hm", ""),
        ThinkingDelta("m", "sig"),
        TextDelta("a"),
        ToolCall(0, "c1", "f", "{}"),
        TextDelta("b" * 9000),
    ]
    scene.answer(*events, finished=Finished("tool_calls", Usage(3, 2)))
    _, reader = scene.ask()
    assert reader.state == "hit"
    assert reader.events[:3] == [ThinkingDelta("hmm", "sig"), TextDelta("a"), ToolCall(0, "c1", "f", "{}")]
    assert "".join(one.text for one in reader.events[3:] if isinstance(one, TextDelta)) == "b" * 9000
    assert len(reader.events) == 6


WARM = Sampling(temperature=0.7)


@pytest.mark.parametrize(
    ("settings", "annotations", "sampling", "state"),
    [
        (Cache(), ASKS, COLD, "miss"),
        (Cache(), ASKS, Sampling(seed=7), "miss"),
        (Cache(), ASKS, WARM, "miss"),
        (Cache(sampled="never"), ASKS, WARM, "bypass"),
        (Cache(sampled="never"), ASKS, COLD, "miss"),
        (Cache(), Annotations(), COLD, None),
        (Cache(models=("m*",)), Annotations(), COLD, "miss"),
        (Cache(models=("m*",)), Annotations(), WARM, "bypass"),
        (Cache(models=("m*",), sampled="always"), Annotations(), WARM, "miss"),
        (Cache(models=("m*",)), Annotations(cache_enabled=False), COLD, None),
        (Cache(models=("other*",)), Annotations(), COLD, None),
        (Cache(keys=("",)), Annotations(), COLD, "miss"),
    ],
)
def test_who_may_have_the_cache(
    settings: Cache, annotations: Annotations, sampling: Sampling, state: str | None
) -> None:
    scene = Scene(settings)
    _, reader = scene.ask(annotations=annotations, sampling=sampling)
    scene.answer()
    assert reader.state == state


def test_what_only_the_server_can_read_goes_past() -> None:
    scene = Scene()
    body = b'{"model": "m:1b", "prompt": "Why?", "logit_bias": {"1": -100}, "temperature": 0}'
    raw = RawRequest(RawHead(b"POST", b"/v1/completions"), body)
    _, reader = scene.ask(dialect=Dialect.OPENAI, operation=Operation.COMPLETE, raw=raw)
    scene.answer()
    assert reader.state == "bypass"
    assert reader.route is not None
    assert "'logit_bias'" in dict(reader.route.headers())["X-Cache-Reason"]
    plain = RawRequest(raw.head, body.replace(b'"logit_bias": {"1": -100}, ', b""))
    _, reader = scene.ask(dialect=Dialect.OPENAI, operation=Operation.COMPLETE, raw=plain)
    scene.answer()
    assert reader.state == "miss"


def test_what_no_key_can_be_made_of_goes_past() -> None:
    scene = Scene()
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    for odd in (
        Generation("Why?", context=(-(2**63) - 1,)),
        Generation("Why?", format={"x": deep}),
        Generation("Why?\ud800"),
    ):
        _, reader = scene.ask(generation=odd)
        scene.answer()
        assert reader.state == "bypass"


def test_an_answer_for_one_dialect_serves_another() -> None:
    scene = Scene()
    messages = (Message("user", "Why?"),)
    asked = {"operation": Operation.CHAT}
    scene.ask(generation=Generation(messages=messages, sampling=COLD), dialect=Dialect.OLLAMA, **asked)
    scene.answer()
    spelled_out = Sampling(temperature=0.0, top_p=1.0)
    _, reader = scene.ask(
        generation=Generation(messages=messages, sampling=spelled_out), dialect=Dialect.OPENAI, **asked
    )
    assert reader.state == "hit"


def test_limits_of_a_key_hold_for_hits_too() -> None:
    scene = Scene()
    quota = Quota(Allowance(requests_per_minute=2, concurrent=1))
    bob = Caller("bob", frozenset({"infer"}), (MODEL,), None, quota)
    scene.ask(caller=bob)
    scene.answer()
    assert quota.running == 0
    _, reader = scene.ask(caller=bob)
    assert reader.state == "hit"
    assert quota.running == 0
    _, refused = scene.ask(caller=bob)
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.RATE_LIMITED
    _, refused = scene.ask(caller=Caller("eve", frozenset({"infer"}), ("other",)))
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.PERMISSION_DENIED


def test_each_that_waits_counts_for_its_key_until_its_end() -> None:
    scene = Scene()
    quota = Quota(Allowance(concurrent=3))
    bob = Caller("bob", frozenset({"infer"}), (), None, quota)
    tickets = [scene.ask(caller=bob)[0] for _ in range(3)]
    assert quota.running == 3
    _, refused = scene.ask(caller=bob)
    assert refused.error is not None
    tickets[0].cancel()
    assert quota.running == 2
    scene.answer()
    assert quota.running == 0


class LateStore(MemoryStore):
    """Finds things when it is told to."""

    def __init__(self, bounds: Bounds, clock: Any) -> None:
        super().__init__(bounds, clock)
        self.may = asyncio.Event()
        self.asked = 0

    def find(self, key: bytes) -> Awaitable[bytes | None]:  # type: ignore[override]
        self.asked += 1

        async def look() -> bytes | None:
            await self.may.wait()
            return MemoryStore.find(self, key)

        return look()


def test_a_lookup_that_takes_time_is_waited_for_once() -> None:
    async def scene_of() -> None:
        scene = Scene()
        store = scene.cache.store = LateStore(Bounds(1_000_000, 3600.0), lambda: scene.unix_s)
        readers = [scene.ask()[1] for _ in range(3)]
        assert (store.asked, scene.attempts) == (1, [])
        store.may.set()
        await asyncio.sleep(0.01)
        scene.answer()
        assert [reader.text for reader in readers] == ["Because."] * 3
        store.may.clear()
        readers = [scene.ask()[1] for _ in range(3)]
        ticket, gone = scene.ask()
        ticket.cancel()
        store.may.set()
        await asyncio.sleep(0.01)
        assert [reader.state for reader in readers] == ["hit"] * 3
        assert (gone.route, len(scene.attempts)) == (None, 1)
        store.may.clear()
        ticket, gone = scene.ask("Whence?")
        ticket.cancel()
        store.may.set()
        await asyncio.sleep(0.01)
        assert len(scene.attempts) == 1, "nobody waits any more"

    asyncio.run(scene_of())


def test_it_holds_less_while_memory_is_short() -> None:
    scene = Scene()
    for number in range(20):
        scene.ask(f"Question {number}")
        scene.answer(TextDelta("x" * 1000))
    held = asyncio.run(scene.store.measure())
    scene.cache.look_after()
    assert asyncio.run(scene.store.measure()) == held
    scene.stage.dispatcher.pressure = Shedding.NOTHING
    scene.cache.look_after()
    left = asyncio.run(scene.store.measure())
    assert 0 < left.size_bytes <= held.size_bytes / 2
    for _ in range(10):
        scene.cache.look_after()
    assert asyncio.run(scene.store.measure()).entries == 0


def test_purging_lets_go() -> None:
    scene = Scene()
    scene.ask()
    scene.answer()
    assert asyncio.run(scene.cache.let_go(MODEL, None, None)) == 1
    scene.ask()
    assert len(scene.attempts) == 2


def test_purging_a_model_lets_go_of_what_another_name_of_it_was_told() -> None:
    scene = Scene()
    found = {name: ModelFacts(name, digest) for name, digest in ((MODEL, "one"), ("n:1b", "one"), ("o:1b", "two"))}
    scene.stage.fleet.probed("a", ProbeReport(found, frozenset(found)), 0)
    scene.ask(model="n:1b")
    scene.answer()
    assert scene.ask()[1].state == "hit"
    assert asyncio.run(scene.cache.let_go("o:1b", None, None)) == 0
    assert asyncio.run(scene.cache.let_go(MODEL, None, None)) == 1
    scene.ask()
    assert len(scene.attempts) == 2


def test_nobody_finds_what_was_kept_for_another() -> None:
    """100,000 near-equal requests of many tenants, roles, models and options: a key for each that differs."""
    secret, keys, asked = bytes(32), set(), set()
    callers = [Caller(f"k{number}") for number in range(50)] + [
        Caller("k1", frozenset({"infer"})),
        Caller("k1", models=("m",)),
    ]
    for serial in range(100_000):
        caller = callers[serial % len(callers)]
        weights = Weights((("d1", "d2")[serial // 52 % 2],))
        temperature = (serial // 104 % 4) / 10
        prompt = f"Who was born in {1000 + serial // 416}?"
        request = Generation(prompt, system="s" * (serial % 3), sampling=Sampling(temperature=temperature))
        asked.add((callers.index(caller), weights.digests, prompt, request.system, temperature))
        keys.add(find_key(secret, caller, weights, Operation.GENERATE, request))
    assert len(keys) == len(asked) > 90_000


class Dictionary(Embedder):
    """Vectors of two dimensions, by the first word; all are of one space."""

    def __init__(self) -> None:
        self.space = VectorSpace("v", "digest", 2)
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str], model: str, wish: EmbedWish) -> Vectors:
        self.asked += texts
        if self.error is not None:
            raise self.error
        found = tuple((1.0, 0.0) if "sky" in text else (0.0, 1.0) for text in texts)
        return Vectors(found, self.space, 0.0, "modelled", 1, ("v",))

    async def space_of(self, model: str, wish: EmbedWish) -> VectorSpace:
        return self.space


SKY, ALIKE = "Why is the sky blue?", "Please explain why the sky is blue."


def ask_alike(scene: Scene, embedder: Dictionary, *asked: dict[str, Any]) -> list[Reader]:
    """Ask one after the other, and answer each that gets to the backend."""

    async def ask_all() -> list[Reader]:
        scene.cache = AnswerCache(
            scene.store,
            scene.settings,
            scene.stage.dispatcher,
            scene.books,
            MeaningCache(scene.settings.semantic, lambda: embedder),
        )
        readers = []
        for one in asked:
            before = len(scene.attempts)
            _, reader = scene.ask(**one)
            await until(lambda reader=reader, before=before: reader.route is not None or len(scene.attempts) > before)  # type: ignore[misc]
            if reader.route is None:
                scene.answer(TextDelta(f"Answer {before}."))
            readers.append(reader)
        return readers

    return asyncio.run(ask_all())


def semantic(**fields: Any) -> Scene:
    scene = Scene()
    scene.settings = Cache(semantic=Semantic(enabled=True, **fields))
    return scene


def test_a_prompt_that_means_the_same_gets_the_answer() -> None:
    scene, embedder = semantic(), Dictionary()
    first, second, third = ask_alike(scene, embedder, {"prompt": SKY}, {"prompt": ALIKE}, {"prompt": SKY})
    assert (first.state, second.state, third.state) == ("miss", "hit", "hit")
    assert first.text == second.text == third.text
    assert second.route is not None
    assert dict(second.route.headers())["X-Cache-Similarity"] == "1.0000"
    assert third.route is not None
    assert "X-Cache-Similarity" not in dict(third.route.headers()), "it is the same request"
    assert embedder.asked == [SKY, ALIKE]
    assert scene.count()["similar"] == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"prompt": "Why is the sky green?"}, id="another word"),
        pytest.param({"prompt": "Why is the grass green?"}, id="another vector"),
        pytest.param({"annotations": Annotations(cache_enabled=True, cache_semantic=False)}, id="opted out"),
        pytest.param({"caller": Caller("ann")}, id="tenant"),
        pytest.param({"sampling": Sampling(temperature=0.0, num_predict=5)}, id="options"),
        pytest.param({"generation": Generation(ALIKE, system="Be brief.", sampling=COLD)}, id="system"),
        pytest.param({"generation": Generation(ALIKE, tools=({"type": "function"},), sampling=COLD)}, id="tools"),
        pytest.param({"generation": Generation(ALIKE, context=(1, 2), sampling=COLD)}, id="context"),
        pytest.param({"generation": Generation(ALIKE, images=("aGk=",), sampling=COLD)}, id="image"),
        pytest.param({"operation": Operation.CHAT}, id="operation"),
        pytest.param({"prompt": "Why is the sky blue? " * 40}, id="long"),
    ],
)
def test_such_a_prompt_does_not(other: dict[str, Any]) -> None:
    scene = semantic()
    _, second = ask_alike(scene, Dictionary(), {"prompt": SKY}, {"prompt": ALIKE} | other)
    assert len(scene.attempts) == 2
    assert second.state == "miss"


def test_who_opts_out_gets_no_like_answer_beside_one_that_does_not() -> None:
    """Both prompts are the same, and at once: one may have the answer to a prompt that means the same."""
    scene, embedder = semantic(), Dictionary()

    async def ask_both() -> tuple[Reader, Reader]:
        scene.cache = AnswerCache(
            scene.store,
            scene.settings,
            scene.stage.dispatcher,
            scene.books,
            MeaningCache(scene.settings.semantic, lambda: embedder),
        )
        scene.ask(SKY)
        await until(lambda: len(scene.attempts) == 1)
        scene.answer()
        _, opted_in = scene.ask(ALIKE)
        _, opted_out = scene.ask(ALIKE, annotations=Annotations(cache_enabled=True, cache_semantic=False))
        await until(lambda: opted_in.route is not None and len(scene.attempts) == 2)
        scene.answer(TextDelta("Its own."))
        return opted_in, opted_out

    opted_in, opted_out = asyncio.run(asyncio.wait_for(ask_both(), 10))
    assert (opted_in.state, opted_in.text) == ("hit", "Because.")
    assert (opted_out.state, opted_out.text) == ("miss", "Its own.")


def test_a_conversation_has_no_like_unless_that_is_wished() -> None:
    before = (Message("user", "Hello."), Message("assistant", "Hi."))

    def turn(text: str) -> dict[str, Any]:
        return {
            "operation": Operation.CHAT,
            "generation": Generation(messages=(*before, Message("user", text)), sampling=COLD),
        }

    scene = semantic()
    ask_alike(scene, Dictionary(), turn(SKY), turn(ALIKE))
    assert len(scene.attempts) == 2
    scene = semantic(multi_turn=True)
    _, second = ask_alike(scene, Dictionary(), turn(SKY), turn(ALIKE))
    assert second.state == "hit"


def test_another_space_is_no_likeness() -> None:
    scene, embedder = semantic(), Dictionary()

    class Changing(Dictionary):
        async def embed(self, texts: Sequence[str], model: str, wish: EmbedWish) -> Vectors:
            found = await super().embed(texts, model, wish)
            self.space = VectorSpace("v", "other digest", 2)
            return found

    ask_alike(scene, Changing(), {"prompt": SKY}, {"prompt": ALIKE})
    assert len(scene.attempts) == 2
    assert embedder.space.digest == "digest"


@pytest.mark.parametrize("error", [ProxyError(ErrorKind.MODEL_NOT_FOUND, "no such model"), RuntimeError("a fault")])
def test_without_vectors_it_is_a_miss(error: Exception) -> None:
    scene, embedder = semantic(), Dictionary()
    embedder.error = error
    first, second = ask_alike(scene, embedder, {"prompt": SKY}, {"prompt": ALIKE})
    assert (first.state, second.state) == ("miss", "miss")
    assert len(scene.attempts) == 2


def test_what_was_purged_is_like_nothing() -> None:
    scene, embedder = semantic(), Dictionary()

    async def purge_between() -> None:
        scene.cache = AnswerCache(
            scene.store,
            scene.settings,
            scene.stage.dispatcher,
            scene.books,
            MeaningCache(scene.settings.semantic, lambda: embedder),
        )
        for prompt in (SKY, ALIKE):
            before = len(scene.attempts)
            scene.ask(prompt)
            await until(lambda before=before: len(scene.attempts) > before)  # type: ignore[misc]
            scene.answer()
            await scene.cache.let_go(None, None, None)

    asyncio.run(purge_between())
    assert len(scene.attempts) == 2
