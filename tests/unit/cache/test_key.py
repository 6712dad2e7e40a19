"""Two requests have one key if, and only if, nothing that may change the answer tells them apart."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.cache.key import KEY_BYTES, Weights, find_key, is_deterministic, without_prompt
from ollama_proxy.domain.call import Generation, Message, Operation, Sampling
from ollama_proxy.domain.caller import Caller

SECRET, WEIGHTS, ANN = bytes(range(32)), Weights(("d",)), Caller("ann")
TEXTS = st.text("ab\x00é", max_size=3)
OPTIONS = st.builds(
    Sampling,
    num_predict=st.sampled_from([None, 1, 2]),
    temperature=st.sampled_from([None, 0.0, 0.5]),
    top_p=st.sampled_from([None, 0.5]),
    seed=st.sampled_from([None, 0, 1]),
    stop=st.sampled_from([None, (), ("a",), ("a", ""), ("", "a")]),
    extra=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from([0, 1, "1", None, True]), max_size=2),
)
MESSAGES = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "system"]), content=TEXTS, images=st.sampled_from([(), ("a",)])),
    max_size=2,
).map(tuple)
REQUESTS = st.builds(
    Generation,
    prompt=TEXTS,
    suffix=TEXTS,
    system=TEXTS,
    raw=st.booleans(),
    context=st.sampled_from([(), (1,), (1, 2)]),
    messages=MESSAGES,
    sampling=OPTIONS,
    format=st.sampled_from([None, "json", {"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    think=st.sampled_from([None, True, False, "low"]),
    keep_alive=st.sampled_from([None, 0, "5m"]),
)


def tell(asked: Generation) -> Any:
    """All that matters of a request, so that values which Python takes for equal are told apart as JSON tells them."""
    settled = msgspec.structs.replace(asked, keep_alive=None)
    document = msgspec.to_builtins(settled)
    document["sampling"]["extra"] = dict(sorted(asked.sampling.extra.items()))
    return msgspec.json.encode(document)


@given(one=REQUESTS, other=REQUESTS)
def test_keys_are_equal_when_requests_are(one: Generation, other: Generation) -> None:
    keys = [find_key(SECRET, ANN, WEIGHTS, Operation.GENERATE, asked) for asked in (one, other)]
    assert (keys[0] == keys[1]) is (tell(one) == tell(other))
    assert keys[0] is not None
    assert len(keys[0]) == KEY_BYTES


def test_everything_around_the_request_is_part_of_the_key() -> None:
    asked = Generation("x")
    keys = {
        find_key(SECRET, ANN, WEIGHTS, Operation.GENERATE, asked),
        find_key(bytes(32), ANN, WEIGHTS, Operation.GENERATE, asked),
        find_key(SECRET, Caller("bob"), WEIGHTS, Operation.GENERATE, asked),
        find_key(SECRET, Caller("ann", frozenset({"infer"})), WEIGHTS, Operation.GENERATE, asked),
        find_key(SECRET, Caller("ann", models=("m",)), WEIGHTS, Operation.GENERATE, asked),
        find_key(SECRET, Caller("ann", backends=frozenset({"b"})), WEIGHTS, Operation.GENERATE, asked),
        find_key(SECRET, ANN, Weights(("e",)), Operation.GENERATE, asked),
        find_key(SECRET, ANN, Weights(("d",), "name"), Operation.GENERATE, asked),
        find_key(SECRET, ANN, WEIGHTS, Operation.CHAT, asked),
    }
    assert len(keys) == 9


def test_the_name_of_the_limit_is_no_matter_and_the_word_of_the_effort_is() -> None:
    asked = Generation("x", think="low")
    key = find_key(SECRET, ANN, WEIGHTS, Operation.CHAT, asked)
    as_limit = msgspec.structs.replace(asked, limits_completion=True)
    assert find_key(SECRET, ANN, WEIGHTS, Operation.CHAT, as_limit) == key
    minimal = msgspec.structs.replace(asked, effort="minimal")
    assert find_key(SECRET, ANN, WEIGHTS, Operation.CHAT, minimal) != key


def test_what_is_deterministic() -> None:
    assert is_deterministic(Sampling(temperature=0.0))
    assert is_deterministic(Sampling(temperature=1.0, seed=0))
    assert not is_deterministic(Sampling())
    assert not is_deterministic(Sampling(temperature=0.01))


def test_without_its_prompt() -> None:
    assert without_prompt(Generation("x", system="s")) == Generation(system="s")
    turns = (Message("system", "s"), Message("user", "x", images=("i",)))
    assert without_prompt(Generation(messages=turns)) == Generation(messages=(turns[0], Message("user", images=("i",))))
