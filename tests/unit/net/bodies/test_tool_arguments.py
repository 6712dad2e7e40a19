"""What arguments of tool calls are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.net.bodies.tool_arguments import read_arguments

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values), st.sampled_from((None, 0, 2)))
def test_an_object_stays_and_comes_on_one_line(arguments: dict[str, Any], indent: int | None) -> None:
    read = read_arguments(json.dumps(arguments, indent=indent, ensure_ascii=False))
    assert read is not None
    assert not {"\n", "\r"} & set(read)
    assert json.loads(read) == arguments


def test_numbers_stay_as_they_are_written() -> None:
    assert read_arguments('{"a":1.10,"b":1E2}') == '{"a":1.10,"b":1E2}'
    assert read_arguments(b'{\r\n "a" : 1.10\r\n}') == '{"a":1.10}'


@pytest.mark.parametrize(
    "arguments",
    [
        *("", "null", "5", "[1]", '"{}"', '{"a":', '{"x":NaN}', "{}{}", '{},"done":true'),
        *('{"x":"\ud800"}', b'{"x":"\xff"}', '{"a":' * 100_000),
    ],
    ids=range(12),
)
def test_anything_else_calls_nothing(arguments: str | bytes) -> None:
    assert read_arguments(arguments) is None
