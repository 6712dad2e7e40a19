"""What holds of continuing a cut answer, however the texts are cut."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.answer import Finished, Progress, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, Sampling
from ollama_proxy.domain.caller import Caller
from ollama_proxy.lifecycle.continuation import Sent, continue_call, find_end, join_ends, why_not
from ollama_proxy.net.lanes.seam import EchoCutter

TEXTS = st.text("ab ", max_size=60)


def cut(text: str, places: list[int]) -> list[str]:
    """A text in pieces."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[left:right] for left, right in pairwise(edges)]


def pass_through(cutter: EchoCutter, pieces: list[str]) -> str:
    return "".join([cutter.feed(piece) for piece in pieces]) + cutter.rest()


@given(st.text("ab ", min_size=16, max_size=60), TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_an_echo_is_taken_away_however_it_is_cut(sent: str, new: str, places: list[int]) -> None:
    assert pass_through(EchoCutter(sent), cut(sent + new, places)) == new


@given(TEXTS, TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_what_is_no_echo_comes_whole(sent: str, new: str, places: list[int]) -> None:
    if len(sent) >= 16 and new.startswith(sent):
        new = "x" + new
    assert pass_through(EchoCutter(sent), cut(new, places)) == new


@given(TEXTS, st.integers(0, 60))
def test_no_more_is_held_back_than_is_still_equal(sent: str, at: int) -> None:
    cutter = EchoCutter(sent)
    beginning = sent[: at % max(1, len(sent))] + "x"
    assert cutter.feed(beginning) == beginning
    assert cutter.feed("y") == "y"


def make_call(max_tokens: int = 0, needs: frozenset[Need] = frozenset((Need.GENERATE,))) -> Call:
    sampling = Sampling(num_predict=max_tokens or None, temperature=0.5)
    return Call(
        "r1",
        Dialect.OLLAMA,
        Operation.CHAT,
        "llama3:7b",
        stream=True,
        arrived_s=0.0,
        typed=lambda: Generation(prompt="hello", sampling=sampling),
        needs=needs,
        max_tokens=max_tokens,
    )


def sent_of(pieces: list[str], thoughts: list[str]) -> Sent:
    sent = Sent()
    sent.add([ThinkingDelta(piece) for piece in thoughts], len(thoughts))
    sent.add([TextDelta(piece) for piece in pieces], len(pieces))
    return sent


@given(st.lists(st.text(max_size=5), max_size=8), st.lists(st.text(max_size=5), max_size=8), st.integers(0, 40))
def test_the_rest_is_asked_for_within_what_is_left(pieces: list[str], thoughts: list[str], limit: int) -> None:
    sent, call = sent_of(pieces, thoughts), make_call(limit)
    if limit and sent.tokens >= limit:
        assert why_not(call, sent)
        return
    assert not why_not(call, sent)
    rest = continue_call(call, sent)
    if not sent.tokens:
        assert rest == msgspec.structs.replace(call, begun=True)
        return
    generation = rest.typed()
    assert isinstance(generation, Generation)
    assert rest.continued is not None
    assert (rest.continued.text, rest.continued.thinking) == ("".join(pieces), "".join(thoughts))
    assert rest.raw is None
    assert (rest.max_tokens + sent.tokens == limit) if limit else not rest.max_tokens
    assert generation.sampling.num_predict == (limit - sent.tokens if limit else None)
    assert generation.sampling.temperature == 0.5
    # The first call is still what it was.
    assert call.continued is None
    assert call.typed() == Generation(prompt="hello", sampling=generation.sampling) or limit


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_tokens_of_both_parts_are_counted_once(before: int, after: int, prompt: int) -> None:
    sent = sent_of(["x"] * before, [])
    whole = join_ends(sent, Finished("stop", Usage(prompt + before, after)))
    assert (whole.usage.prompt_tokens, whole.usage.output_tokens) == (prompt, before + after)
    assert join_ends(sent, Finished("length")).usage.output_tokens is None
    if before:
        # Counted in some other way, so that what the prompt took is not known.
        assert join_ends(sent, Finished("stop", Usage(before - 1, after))).usage.prompt_tokens is None


def test_what_cannot_be_taken_up_in_the_middle_is_named() -> None:
    sent = sent_of(["x"], [])
    choices = frozenset((Need.CHOICES,))
    for several in (make_call(needs=choices), msgspec.structs.replace(make_call(), wants=choices)):
        assert why_not(several, sent)
        # The first of them is at its end, and nobody knows of the others.
        assert find_end(several, None, Progress([TextDelta("x")], 1, finished=Finished())) is None
    assert find_end(make_call(), None, Progress([TextDelta("x")], 1, finished=Finished())) == Finished()
    for member in ({"format": "json"}, {"logprobs": True}):
        call = msgspec.structs.replace(make_call(), typed=lambda member=member: Generation("hello", **member))
        assert why_not(call, sent)
        assert why_not(call)
        assert not why_not(call, sent_of([], []))
    assert not why_not(make_call(needs=frozenset((Need.TOOLS,))), sent)
    of_key = make_call()
    of_key.caller = Caller("ada", continues=False)
    assert why_not(of_key, sent) == "the key ada does not wish it"
    sent.add([ToolCall(0, "c", "look", "{}")], 0)
    assert why_not(make_call(), sent) == "a tool was called"


def test_pieces_are_no_tokens_where_a_stop_word_holds_some_back() -> None:
    counted = Finished("stop", Usage(output_tokens=3, counted_events=True))
    progress = Progress([TextDelta("x")], 1, finished=counted)
    assert find_end(make_call(), None, progress) == counted
    stops = Generation("hello", sampling=Sampling(stop=("END",)))
    call = msgspec.structs.replace(make_call(), typed=lambda: stops)
    assert find_end(call, None, progress) == Finished("stop", Usage(counted_events=True))
    told = Finished("stop", Usage(4, 3))
    assert find_end(call, None, Progress([TextDelta("x")], 1, finished=told)) == told
