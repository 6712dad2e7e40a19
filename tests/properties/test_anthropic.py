"""Whatever a client or a server of Anthropic's API sends is understood or refused in words, and never more."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.api.anthropic.counting import estimate_tokens
from ollama_proxy.api.anthropic.requests import has_messages, make_call, read_asked
from ollama_proxy.backends.anthropic.answer_tool import make_answer_tool
from ollama_proxy.backends.anthropic.answers import BodyDecoder, StreamDecoder
from ollama_proxy.backends.anthropic.requests import encode_request
from ollama_proxy.domain.call import Generation
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.http1.exchange import Exchange, ExchangeOwner
from ollama_proxy.net.http1.head import RequestHead
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
anything = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
TYPES = (
    "text",
    "image",
    "document",
    "search_result",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "odd",
)
sources = st.fixed_dictionaries(
    {"type": st.sampled_from(("base64", "url", "text", "content", "file"))},
    optional={"data": st.one_of(st.just("aGk="), anything), "url": anything, "content": anything},
)
blocks: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries(
        {"type": st.sampled_from(TYPES)},
        optional={
            "text": st.one_of(st.text(max_size=5), anything),
            "source": st.one_of(sources, anything),
            "id": st.one_of(st.just("i"), anything),
            "name": st.one_of(st.just("f"), anything),
            "input": anything,
            "tool_use_id": st.one_of(st.just("i"), anything),
            "content": st.one_of(st.lists(blocks, max_size=2), anything),
            "thinking": anything,
            "title": anything,
            "is_error": anything,
        },
    )
)
turns = st.fixed_dictionaries(
    {"role": st.one_of(st.sampled_from(("user", "assistant", "system")), anything)},
    optional={"content": st.one_of(st.text(max_size=5), st.lists(blocks, max_size=3), anything)},
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": st.one_of(st.just("m"), anything),
        "max_tokens": st.one_of(st.just(5), anything),
        "messages": st.one_of(st.lists(turns, max_size=4), anything),
        "system": st.one_of(st.lists(blocks, max_size=2), anything),
        "tools": st.one_of(st.lists(st.fixed_dictionaries({"name": anything, "input_schema": anything})), anything),
        "tool_choice": st.one_of(st.fixed_dictionaries({"type": anything, "name": anything}), anything),
        "thinking": st.one_of(st.just({"type": "enabled"}), anything),
        "output_config": st.one_of(st.fixed_dictionaries({"format": anything, "effort": anything}), anything),
        "stop_sequences": anything,
        "temperature": anything,
        "stream": anything,
        "metadata": anything,
    },
)


def exchange_of(body: bytes) -> Exchange:
    path = b"/v1/messages"
    exchange = Exchange(cast(ExchangeOwner, None), RequestHead((b"POST", path, path, b"", False), (), {}), "")
    exchange.body = body
    return exchange


@given(bodies)
def test_any_request_is_read_or_refused(body: dict[str, Any]) -> None:
    exchange = exchange_of(json.dumps(body).encode())
    with contextlib.suppress(ProxyError):
        asked = read_asked(exchange)
        has_messages(asked)
        call = make_call(asked, exchange, "r", 0.0)
        typed = call.typed()
        assert isinstance(typed, Generation)
        assert estimate_tokens(typed) > 0
        sent = json.loads(encode_request(typed, "m", stream=False, max_tokens=5)[0])
        roles = [turn["role"] for turn in sent["messages"]]
        assert all(one != other for one, other in itertools.pairwise(roles))
        assert all(turn["content"] for turn in sent["messages"])


KINDS = ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "odd")
events = st.fixed_dictionaries(
    {"type": st.one_of(st.sampled_from((*KINDS, "message_stop", "error")), anything)},
    optional={
        "message": anything,
        "content_block": st.one_of(blocks, anything),
        "delta": st.one_of(
            st.fixed_dictionaries({}, optional={"text": anything, "partial_json": st.text(), "stop_reason": anything}),
            anything,
        ),
        "usage": st.one_of(st.just({"input_tokens": 1}), anything),
        "error": anything,
    },
)


@given(
    st.one_of(st.lists(events, max_size=6).map(lambda all_: b"".join(map(_event, all_))), st.binary()), st.booleans()
)
def test_any_answer_is_read_or_called_unreadable(data: bytes, with_form: bool) -> None:
    tool = make_answer_tool({"type": "array"}, ()) if with_form else None
    for decoder in (StreamDecoder(tool), BodyDecoder(tool)):
        with contextlib.suppress(DecodeError, UpstreamError):
            decoder.feed(data)
            decoder.end()


def _event(document: dict[str, Any]) -> bytes:
    return b"event: x\ndata: %b\n\n" % json.dumps(document).encode()
