"""Templates, conditions, annotations and kept texts: each by itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, Priority
from ollama_proxy.pipelines.condition import Condition, find_fault
from ollama_proxy.pipelines.kept import KeptTexts
from ollama_proxy.pipelines.merge import merge_annotations
from ollama_proxy.pipelines.template import fill, list_places


def test_places_are_filled_once_and_never_evaluated() -> None:
    values = {"input.a": "{{b}} {0} ${HOME} $(id) {{input.a}}", "b": "B"}
    assert fill("<{{input.a}}|{{ b }}>", values) == "<{{b}} {0} ${HOME} $(id) {{input.a}}|B>"
    assert fill('{"json": {"a": 1}} %s {b}', values) == '{"json": {"a": 1}} %s {b}'
    assert list_places("{{input.a}} {{ b }}") == ["input.a", "b"]


@pytest.mark.parametrize("bad", ["{{}}", "{{a.b.c}}", "{{a|upper}}", "{{a()}}", "{{ 1 }}", "{{input.}}"])
def test_what_is_no_name_is_an_error(bad: str) -> None:
    with pytest.raises(ValueError, match="is no place"):
        list_places(bad)


@given(st.text(), st.text())
def test_whatever_is_filled_in_comes_out_as_it_was(before: str, value: str) -> None:
    before = before.replace("{", "")
    assert fill(before + "{{x}}", {"x": value}) == before + value


@pytest.mark.parametrize(
    ("condition", "good", "bad", "told"),
    [
        (Condition(contains=("Yes",)), "oh, YES", "no", "lacks 'Yes'"),
        (Condition(lacks=("not sure",)), "fine", "I am Not Sure", "contains 'not sure'"),
        (Condition(one_of=("a", "b")), " B\n", "c", "is none of 'a', 'b'"),
        (Condition(starts_with="yes"), "Yes, sir", "oh yes", "does not start with 'yes'"),
        (Condition(ends_with="."), "Done. ", "Done", "does not end with '.'"),
        (Condition(min_chars=3), "abc", "ab ", "has 2 characters, fewer than 3"),
        (Condition(max_chars=3), "abc", "abcd", "has 4 characters, more than 3"),
        (Condition(min_words=2), "a b", "ab", "has 1 words, fewer than 2"),
        (Condition(max_words=2), "a b", "a b c", "has 3 words, more than 2"),
        (Condition(is_json=True), "[1]", "[1", "is no JSON"),
        (Condition(json_keys=("a",)), '{"a": 1}', '{"b": 1}', "has no member 'a'"),
        (Condition(json_keys=("a",)), '{"a": 1}', "[]", "has no member 'a'"),
        (Condition(any=(Condition(contains=("a",)), Condition(contains=("b",)))), "b", "c", "lacks 'a' and lacks 'b'"),
        (Condition(negated=Condition(contains=("a",))), "b", "a", "is what it must not be"),
    ],
)
def test_a_condition_says_what_is_wrong(condition: Condition, good: str, bad: str, told: str) -> None:
    assert find_fault(condition, good) == ""
    assert find_fault(condition, bad) == told
    assert not condition.is_empty


def test_a_condition_is_data_with_its_own_names() -> None:
    read = msgspec.convert({"not": {"contains": ["x"]}}, Condition)
    assert read == Condition(negated=Condition(contains=("x",)))
    assert Condition(of="a").is_empty


def test_clients_win_over_stages_and_the_stricter_limit_over_both() -> None:
    own = Annotations(target="gpu", max_power_watts=50, max_latency_ms=900, custom={"a": "1", "b": "1"})
    client = Annotations(target="npu", max_power_watts=80, priority=Priority.HIGH, custom={"b": "2"})
    merged = merge_annotations(own, client)
    assert merged == Annotations(
        target="npu",
        max_power_watts=50,
        max_latency_ms=900,
        priority=Priority.HIGH,
        custom={"a": "1", "b": "2"},
    )
    assert merge_annotations(own, NO_ANNOTATIONS) is own
    assert merge_annotations(NO_ANNOTATIONS, client) is client


def test_kept_texts_grow_old_and_make_room() -> None:
    kept = KeptTexts(most_bytes=2000)
    first = ("bob", "p", "s", "k")
    kept.keep(first, "text", until_s=10)
    assert kept.find(first, 9) == "text"
    assert kept.find(("eve", "p", "s", "k"), 9) is None
    assert kept.find(first, 10) is None
    for number in range(20):
        kept.keep(("bob", "p", "s", str(number)), "x" * 100, until_s=100)
    assert kept.find(("bob", "p", "s", "19"), 0) is not None
    assert kept.find(("bob", "p", "s", "0"), 0) is None
    kept.keep(first, "x" * 10_000, until_s=100)
    assert kept.find(first, 0) is None
