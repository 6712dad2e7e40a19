"""Annotations: one meaning from every way in, and no value ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Priority, annotation_headers, parse_annotations
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model, matches_pattern


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "TRUE", " On "])
def test_words_for_true(word: str) -> None:
    assert parse_annotations([("latency_critical", word)]).latency_critical


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "NO"])
def test_words_for_false(word: str) -> None:
    assert not parse_annotations([("latency_critical", word)]).latency_critical


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latency_critical", "maybe"),
        ("latency_critical", 1.5),
        ("max_power_watts", "lots"),
        ("max_power_watts", "-3"),
        ("max_power_watts", "nan"),
        ("max_latency_ms", "inf"),
        ("max_latency_ms", True),
        ("priority", "urgent"),
        ("media_type", "smell"),
        ("target", ["npu"]),
        ("team", {"a": 1}),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ProxyError, match=key) as caught:
        parse_annotations([(key, value)])
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_headers_of_the_contract() -> None:
    headers = [
        (b"x-target-backend", b"ollama-npu"),
        (b"x-latency-critical", b"yes"),
        (b"x-power-efficient", b"0"),
        (b"x-max-latency-ms", b"500"),
        (b"x-max-power-watts", b"12.5"),
        (b"x-cache-enabled", b"on"),
        (b"x-priority", b"Best-Effort"),
        (b"x-media-type", b"code"),
        (b"x-custom-team", b"blue"),
        (b"x-forwarded-for", b"1.2.3.4"),
    ]
    read = parse_annotations(annotation_headers(headers))
    assert (read.target, read.latency_critical, read.prefer_power_efficiency) == ("ollama-npu", True, False)
    assert (read.max_latency_ms, read.max_power_watts, read.cache_enabled) == (500, 12.5, True)
    assert (read.priority, read.media_type, read.custom) == (Priority.BEST_EFFORT, "code", {"team": "blue"})


def test_deadline_is_another_word_for_the_latency_limit() -> None:
    assert parse_annotations(annotation_headers([(b"x-deadline-ms", b"70")])).max_latency_ms == 70


def test_a_later_pair_wins() -> None:
    assert parse_annotations([("target", "npu"), ("target", "cpu")]).target == "cpu"


def test_auto_leaves_the_choice() -> None:
    assert parse_annotations([("target", "auto")]).target == ""


def test_nothing_is_nothing() -> None:
    assert parse_annotations([]) is NO_ANNOTATIONS


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
    )
)
def test_any_pairs_give_annotations_or_a_refusal(pairs: list[tuple[str, object]]) -> None:
    try:
        parse_annotations(pairs)
    except ProxyError:
        return


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("llama3", "llama3:latest"),
        ("Llama3:7B", "llama3:7b"),
        ("host:5000/ns/m", "host:5000/ns/m:latest"),
        ("ns/m:tag", "ns/m:tag"),
        ("", ""),
    ],
)
def test_canonical_names(name: str, canonical: str) -> None:
    assert canonical_model(name) == canonical


@pytest.mark.parametrize(
    ("model", "pattern", "matches"),
    [
        ("qwen2.5:0.5b", "*:0.5b", True),
        ("llama3:latest", "llama3", True),
        ("llama3:70b", "*:*70b*", True),
        ("llama3:7b", "*:70b", False),
        ("qwen2.5:7b", "Qwen2.5:*", True),
    ],
)
def test_patterns(model: str, pattern: str, matches: bool) -> None:
    assert matches_pattern(model, pattern) is matches


def test_who_wants_no_other_backend_to_go_on_says_so_in_every_way() -> None:
    """The contract's gRPC message has no field for it: there it is a custom entry."""
    for pairs in (
        annotation_headers([(b"x-continue", b"never")]),
        [("continuation", "never")],
        [("custom.continuation", "never")],
    ):
        assert parse_annotations(pairs).continuation == "never"
    with pytest.raises(ProxyError, match="expected auto, never"):
        parse_annotations([("continuation", "sometimes")])
