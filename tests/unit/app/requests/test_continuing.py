"""Streams that break off, with scripted backends: who goes on, with what, and what the client is told in the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.app.requests.continuing import ask_for_rest
from ollama_proxy.app.requests.kept import bound_kept
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import Finished, Progress, TextDelta, ToolCall, Usage
from ollama_proxy.domain.call import (
    Call,
    Continued,
    Dialect,
    Generation,
    Need,
    Operation,
    RawHead,
    RawRequest,
    Sampling,
)
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.lifecycle.continuation import Sent, continue_call
from ollama_proxy.routing.account import tell
from ollama_proxy.routing.record import replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.unit.app.requests.test_dispatch import MODEL, ScriptedAttempt, Stage

CUT = Failure(FailureKind.CUT, "connection lost in mid-answer")
ABLE = frozenset((Need.GENERATE, Need.CONTINUATION))


def make_stage(*names: str) -> Stage:
    """Backends that can go on with what another has begun, and keep the calls that they get."""
    stage = Stage(*names)
    for one in stage.backends.values():
        stage.fleet.renew(one.spec, ABLE)
    return stage


def submit(stage: Stage, annotations: Annotations | None = None, limit: int = 0) -> None:
    call = Call(
        "r1",
        Dialect.OLLAMA,
        Operation.CHAT,
        MODEL,
        stream=True,
        arrived_s=stage.now_s,
        typed=lambda: Generation(prompt="hi", sampling=Sampling(num_predict=limit or None)),
        annotations=annotations or Annotations(),
        max_tokens=limit,
    )
    stage.dispatcher.submit(call, stage.client)


def submit_raw(stage: Stage, members: str) -> None:
    """A request of an OpenAI client, which a server of that dialect reads as it came."""
    body = b'{"messages":[],%b}' % members.encode()
    raw = RawRequest(RawHead(b"POST", b"/v1/chat/completions"), body)
    typed = Generation(prompt="hi")
    call = Call("r1", Dialect.OPENAI, Operation.CHAT, MODEL, True, stage.now_s, lambda: typed, raw=raw)
    stage.dispatcher.submit(call, stage.client)


def write(attempt: ScriptedAttempt, text: str, finished: Finished | None = None, *, calling: bool = False) -> None:
    """A backend writes: a word a token."""
    before = attempt.progress
    events = [*(before.events if before else ()), TextDelta(text)]
    tokens = (before.tokens if before else 0) + len(text.split())
    attempt.progress = Progress(events, tokens, calling, finished=finished)
    attempt.sink.on_events([TextDelta(text)])


def running(stage: Stage) -> ScriptedAttempt:
    (job,) = stage.dispatcher.running
    return stage.backends[job.life.backend].attempts[-1]


def rest_of(stage: Stage) -> Call:
    (job,) = stage.dispatcher.running
    return job.errand.call


def fail(attempt: ScriptedAttempt, failure: Failure = CUT) -> None:
    attempt.aborted = True
    attempt.sink.on_failure(failure)


def nobody_is_at_work(stage: Stage) -> bool:
    return not stage.dispatcher.running and not any(stage.view(name).in_flight for name in stage.backends)


def test_the_rest_is_written_by_another_and_counted_together() -> None:
    stage = make_stage("a", "b")
    submit(stage, limit=10)
    write(running(stage), "one two three")
    fail(running(stage))
    continued = rest_of(stage).continued
    assert continued is not None
    assert (continued.text, continued.tokens, rest_of(stage).max_tokens) == ("one two three", 3, 7)
    write(running(stage), " four")
    running(stage).sink.on_end(Finished("stop", Usage(8, 1)))
    assert stage.client.text == "one two three four"
    assert stage.client.outcome is not None
    usage = stage.client.outcome.finished.usage
    assert (usage.prompt_tokens, usage.output_tokens) == (5, 4)
    assert stage.client.outcome.joules is None
    assert stage.client.route is not None
    assert stage.client.route.attempts == 2
    assert nobody_is_at_work(stage)


def test_two_seams_are_one_text() -> None:
    stage = make_stage("a", "b", "c")
    submit(stage)
    for text in ("one", " two"):
        write(running(stage), text)
        fail(running(stage))
    continued = rest_of(stage).continued
    assert continued is not None
    assert (continued.text, continued.tokens) == ("one two", 2)
    write(running(stage), " three")
    running(stage).sink.on_end(Finished("stop", Usage(4, 1)))
    assert stage.client.text == "one two three"
    assert stage.client.outcome is not None
    assert stage.client.outcome.finished.usage.output_tokens == 3


def test_who_fails_before_the_first_word_of_the_rest_is_followed_by_another() -> None:
    stage = make_stage("a", "b", "c")
    submit(stage)
    write(running(stage), "one")
    fail(running(stage))
    fail(running(stage), Failure(FailureKind.REFUSED, "connection refused"))
    write(running(stage), " two")
    running(stage).sink.on_end(Finished())
    assert stage.client.text == "one two"
    assert stage.client.error is None


def test_a_stream_of_which_no_word_was_sent_begins_again() -> None:
    """Even where nobody could go on behind a word."""
    stage = Stage("a", "b")
    submit(stage)
    running(stage).progress = Progress((), 0, first=b"role")
    running(stage).sink.on_events(())
    fail(running(stage))
    assert rest_of(stage).continued is None
    write(running(stage), "one")
    running(stage).sink.on_end(Finished("stop", Usage(4, 1)))
    assert stage.client.text == "one"
    assert stage.client.taken_over.first == b"role"


def test_what_was_all_there_ends_where_it_broke_off() -> None:
    stage = make_stage("a", "b")
    submit(stage)
    write(running(stage), "all of it", Finished("stop", Usage(4, 3)))
    running(stage).sink.on_failure(CUT)
    assert stage.client.error is None
    assert stage.client.outcome is not None
    assert stage.client.outcome.finished == Finished("stop", Usage(4, 3))
    assert sum(len(one.attempts) for one in stage.backends.values()) == 1
    assert nobody_is_at_work(stage)


def test_what_is_at_its_limit_ends_where_it_broke_off() -> None:
    stage = make_stage("a", "b")
    submit(stage, limit=3)
    write(running(stage), "one two")
    fail(running(stage))
    write(running(stage), " three")
    fail(running(stage))
    assert stage.client.error is None
    assert stage.client.outcome is not None
    assert stage.client.outcome.finished.reason == "length"
    assert stage.client.outcome.finished.usage.output_tokens == 3


@pytest.mark.parametrize(
    ("failure", "calling", "continues", "annotations", "told"),
    [
        (CUT, True, True, Annotations(), "a tool was called"),
        (CUT, False, False, Annotations(), "routing.continuation is never"),
        (CUT, False, True, Annotations(continuation="never"), "the request does not wish it"),
        (Failure(FailureKind.OUR_FAULT, "x"), False, True, Annotations(), "others would fail as well"),
    ],
)
def test_why_nobody_goes_on_is_told(
    failure: Failure, calling: bool, continues: bool, annotations: Annotations, told: str
) -> None:
    stage = make_stage("a", "b")
    stage.dispatcher.continues = continues
    submit(stage, annotations)
    write(running(stage), "one", calling=calling)
    fail(running(stage), failure)
    assert stage.client.error is not None
    assert stage.client.error.message.endswith(f"; not continued: {told}")
    assert stage.client.outcome is None
    assert nobody_is_at_work(stage)


@pytest.mark.parametrize("member", ["grammar", "guided_json", "unheard_of"])
def test_what_cannot_be_carried_over_is_named(member: str) -> None:
    stage = make_stage("a", "b")
    submit_raw(stage, f'"{member}":"x"')
    running(stage).progress = Progress([TextDelta("one")], 1, first=b"role")
    running(stage).sink.on_events([TextDelta("one")])
    fail(running(stage))
    assert stage.client.error is not None
    assert stage.client.error.message.endswith(f"; not continued: {member!r} cannot be carried over")
    assert sum(len(one.attempts) for one in stage.backends.values()) == 1


def test_what_is_carried_in_the_clients_own_words_is_not_told_in_others() -> None:
    stage = make_stage("a", "b")
    submit_raw(stage, '"logit_bias":{"1":2}')
    (job,) = stage.dispatcher.running
    raw = job.errand.call.raw
    running(stage).progress = Progress([TextDelta("one")], 1, first=b"role")
    running(stage).sink.on_events([TextDelta("one")])
    fail(running(stage))
    untold = "'logit_bias' cannot be carried over"
    assert rest_of(stage).continued == Continued("one", tokens=1, raw=raw, untold=untold)


def test_before_the_first_token_anything_goes_out_once_more_as_it_came() -> None:
    stage = make_stage("a", "b")
    submit_raw(stage, '"grammar":"x"')
    (job,) = stage.dispatcher.running
    raw = job.errand.call.raw
    running(stage).progress = Progress((), 0, first=b"role")
    running(stage).sink.on_events(())
    fail(running(stage))
    assert (rest_of(stage).raw, rest_of(stage).begun, rest_of(stage).continued) == (raw, True, None)


def test_what_the_first_server_was_told_in_the_typed_form_may_be_told_so_again() -> None:
    stage = make_stage("a", "b")
    submit_raw(stage, '"unheard_of":"x"')
    write(running(stage), "one")
    fail(running(stage))
    assert rest_of(stage).continued == Continued("one", tokens=1)


def test_what_was_not_kept_is_not_continued() -> None:
    stage = make_stage("a", "b")
    submit(stage)
    write(running(stage), "one")
    running(stage).give_up_kept()
    fail(running(stage))
    assert stage.client.error is not None
    assert stage.client.error.message.endswith("; not continued: how far it came cannot be told")


def test_nobody_able_and_no_attempt_left_are_told() -> None:
    stage = Stage("a", "b")
    submit(stage)
    write(running(stage), "one")
    fail(running(stage))
    assert stage.client.error is not None
    assert stage.client.error.message.endswith("; not continued: nobody else can, or may")
    stage = make_stage("a", "b", "c", "d")
    submit(stage)
    for text in ("one", " two", " three"):
        write(running(stage), text)
        fail(running(stage))
    assert stage.client.error is not None
    assert stage.client.error.message.endswith("; not continued: no attempt is left")
    assert stage.client.text == "one two three"
    assert nobody_is_at_work(stage)


def test_other_weights_under_the_same_name_do_not_go_on() -> None:
    stage = make_stage("a", "b", "c")
    for name, digest in (("a", "x"), ("b", "y"), ("c", "x")):
        facts = {MODEL: ModelFacts(MODEL, digest=digest)}
        stage.fleet.probed(stage.backends[name].spec.id, ProbeReport(facts, frozenset({MODEL})), 0)
    submit(stage, Annotations(target="a"))
    write(running(stage), "one")
    fail(running(stage))
    assert not stage.backends["b"].attempts
    if stage.dispatcher.running:
        (job,) = stage.dispatcher.running
        assert job.life.backend == "c"


def probe(stage: Stage, name: str, digest: str, *, loaded: bool = True) -> None:
    """The backend has these weights from now on; where they are loaded, requests go first."""
    report = ProbeReport({MODEL: ModelFacts(MODEL, digest=digest)}, frozenset({MODEL} if loaded else ()))
    stage.fleet.probed(name, report, 0)


@pytest.mark.parametrize("since", ["removed", "another server", "other weights"])
def test_whoever_wrote_it_counts_with_the_weights_it_had_then(since: str) -> None:
    stage = make_stage("a", "b", "c")
    for name, digest in (("a", "x"), ("b", "y"), ("c", "x")):
        probe(stage, name, digest, loaded=name == "a")
    submit(stage)
    attempt = running(stage)
    assert stage.backends["a"].attempts == [attempt]
    write(attempt, "one")
    if since == "other weights":
        probe(stage, "a", "y")
    else:
        stage.fleet.remove("a")
    if since == "another server":
        stage.fleet.add(stage.backends["a"].spec, ABLE)
        probe(stage, "a", "y")
    probe(stage, "b", "y")
    fail(attempt)
    assert not stage.backends["b"].attempts
    assert stage.client.error is None
    assert stage.backends["c"].attempts


def test_weights_that_one_has_told_count_behind_one_that_tells_none() -> None:
    stage = make_stage("a", "b", "c")
    for name, digest in (("a", "x"), ("b", ""), ("c", "y")):
        probe(stage, name, digest, loaded=name == "a")
    submit(stage)
    write(running(stage), "one")
    fail(running(stage))
    write(running(stage), " two")
    fail(running(stage))
    assert stage.backends["b"].attempts
    assert not stage.backends["c"].attempts
    assert stage.client.error is not None


def test_nobody_is_given_up_for_those_who_have_other_weights() -> None:
    stage = make_stage("a", "b")
    probe(stage, "a", "x")
    probe(stage, "b", "y", loaded=False)
    submit(stage)
    (job,) = stage.dispatcher.running
    assert job.current is not None
    assert job.errand.could_another(job.current, stage.now_s)
    write(running(stage), "one")
    assert not job.errand.could_another(job.current, stage.now_s)
    probe(stage, "b", "x")
    assert job.errand.could_another(job.current, stage.now_s)


def test_a_client_that_leaves_in_the_middle_of_the_rest_leaves_nothing() -> None:
    stage = make_stage("a", "b")
    submit(stage)
    write(running(stage), "one")
    fail(running(stage))
    (job,) = stage.dispatcher.running
    attempt = running(stage)
    job.cancel()
    assert attempt.aborted
    assert stage.client.error is None
    assert nobody_is_at_work(stage)
    assert all(stage.view(name).health is not Health.UNHEALTHY for name in stage.backends)


def test_who_reads_slowly_holds_back_the_next_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[ScriptedAttempt] = []

    def pause(attempt: ScriptedAttempt) -> None:
        held.append(attempt)

    monkeypatch.setattr(ScriptedAttempt, "pause", pause)
    stage = make_stage("a", "b")
    submit(stage)
    write(running(stage), "one")
    (job,) = stage.dispatcher.running
    job.pause()
    first = running(stage)
    fail(first)
    assert held == [first, running(stage)]


def test_the_time_that_is_gone_counts_for_the_rest() -> None:
    stage = make_stage("a", "b")
    submit(stage, Annotations(max_latency_ms=60_000))
    write(running(stage), "one")
    stage.now_s += 7.0
    fail(running(stage))
    (taken,) = stage.dispatcher.decisions.latest(1)
    assert taken.given[0].spent_s == 7.0


def test_the_decision_says_what_it_continues_and_is_taken_again_to_the_same_bytes() -> None:
    stage = make_stage("a", "b")
    submit(stage)
    (job,) = stage.dispatcher.running
    broken = job.life.backend
    write(running(stage), "one two")
    fail(running(stage))
    (taken,) = stage.dispatcher.decisions.latest(1)
    line = write_record(taken.make_record())
    clause = f"continues after 2 tokens (7 characters) from {broken}, which failed: answer cut off"
    record = read_record(line)
    assert record.attempt == 2
    assert record.verdict.reason.endswith(f"; {clause}")
    assert write_record(replay(record)) == line
    assert f"It {clause}" in tell(record)


class Long:
    """A stream that keeps so much as it came, of which a tenth is text."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.did: list[str] = []

    def kept_bytes(self) -> int:
        return self.size

    def read_kept(self) -> None:
        self.did.append("shorten")
        self.size = self.size // 10 if len(self.did) == 1 else self.size

    def give_up_kept(self) -> None:
        self.did.append("give up")
        self.size = 0


def test_long_streams_are_read_and_the_longest_given_up() -> None:
    streams = [Long(50), Long(400), Long(90)]
    bound_kept(streams, most_each=100, most=1000)
    assert [one.did for one in streams] == [[], ["shorten"], []]
    streams = [Long(50), Long(90), Long(80)]
    bound_kept(streams, most_each=100, most=20)
    assert [one.did for one in streams] == [["shorten"], ["shorten", "give up"], ["shorten"]]
    assert sum(one.size for one in streams) == 13
    streams = [Long(900), Long(800)]
    bound_kept(streams, most_each=10**6, most=85)
    assert streams[0].did == ["shorten", "give up"]
    assert streams[1].did == ["shorten"]


def test_a_call_that_was_told_whole_is_not_continued_either() -> None:
    stage = make_stage("a", "b")
    submit(stage)
    write(running(stage), "one")
    attempt = running(stage)
    attempt.progress = Progress([TextDelta("one"), ToolCall(0, "", "f", "{}")], 1)
    fail(attempt)
    assert stage.client.error is not None
    assert stage.client.error.message.endswith("a tool was called")


NAMES = ("a", "b", "c", "d")


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "x", "y"]), min_size=1),
    st.none() | st.frozensets(st.sampled_from(NAMES)),
    st.integers(0, 5),
    st.sampled_from(["", "x", "y"]),
)
def test_the_rest_is_asked_for_within_the_limits_of_the_whole(
    digests: dict[str, str], allowed: frozenset[str] | None, tokens: int, written: str
) -> None:
    """Whoever has no such model, another one under its name, or is not there for the caller, is not asked."""
    views = tuple(
        BackendView(BackendSpec(name, "ollama", name, "cpu", 10, 100, 10), models={MODEL: ModelFacts(MODEL, digest)})
        for name, digest in digests.items()
    )
    wishes = Annotations(max_power_watts=20, max_latency_ms=9, target="a")
    request = RoutingRequest(MODEL, MODEL, frozenset((Need.GENERATE,)), wishes, 7.0, 20, allowed=allowed)
    sent = Sent()
    sent.add([TextDelta("x" * tokens)], tokens)
    call = Call("r1", Dialect.OLLAMA, Operation.CHAT, MODEL, True, 0.0, Generation, max_tokens=20)
    rest = ask_for_rest(request, continue_call(call, sent), FleetView(0, views), written)
    if not tokens:
        assert rest == request
        return
    assert rest.annotations == wishes
    assert Need.CONTINUATION in rest.needs
    assert (rest.prompt_tokens, rest.max_tokens) == (7.0 + tokens, 20 - tokens)
    assert rest.allowed is not None
    for name in rest.allowed:
        assert allowed is None or name in allowed
        assert "" in (digests[name], written) or digests[name] == written
