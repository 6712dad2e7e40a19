"""Whether a request can be told in the typed form without a loss: only then its answer may be kept.

An answer that is to be kept is asked for in the typed form. A member of the body that this form has no room for would
be dropped, and the client would get another answer than without the cache; such a request goes past it.
"""

from __future__ import annotations

import msgspec

from ollama_proxy.cache.nested import find_nested
from ollama_proxy.domain.call import Call, Dialect, Need
from ollama_proxy.net.unreadable import UNREADABLE


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_body = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_OF_A_MESSAGE = _words(
    "role content thinking images tool_calls tool_name tool_call_id name reasoning reasoning_content refusal"
)
#: What clients say for themselves, or for the way of the answer: no server's answer depends on it.
_OF_NO_MATTER = _words(
    "model stream stream_options user metadata store routing safety_identifier prompt_cache_key prompt_cache_retention "
    "keep_alive service_tier"
)
#: Values that are what a server does anyway.
_ORDINARY = {
    "n": (b"1",),
    "best_of": (b"1",),
    "echo": (b"false",),
    "logit_bias": (b"{}",),
    "logprobs": (b"false",),
    "top_logprobs": (b"0",),
    "include": (b"[]",),
    "truncation": (b'"disabled"',),
    "background": (b"false",),
    "truncate": (b"true",),
    "shift": (b"true",),
    "thinking": (b'{"type":"disabled"}', b'{"type": "disabled"}'),
}
_READ = {
    Dialect.OLLAMA: _words(
        "prompt suffix system template raw images context messages tools format think options logprobs top_logprobs"
    ),
    Dialect.OPENAI: _words(
        "messages prompt suffix max_tokens max_completion_tokens temperature top_p top_k min_p seed stop "
        "presence_penalty frequency_penalty tools tool_choice parallel_tool_calls response_format reasoning_effort "
        "reasoning logprobs top_logprobs"
    ),
    Dialect.ANTHROPIC: _words("max_tokens messages system temperature top_p top_k stop_sequences tools tool_choice"),
    Dialect.RESPONSES: _words(
        "input instructions max_output_tokens temperature top_p tools tool_choice parallel_tool_calls text "
        "reasoning previous_response_id"
    ),
}
#: What only a server itself can read, or fetches from elsewhere, or answers more than once.
_BEYOND = frozenset(
    (
        Need.CHOICES,
        Need.TOKEN_INPUT,
        Need.AUDIO,
        Need.DOCUMENTS,
        Need.REMOTE_IMAGES,
        Need.WEB_SEARCH,
        Need.SERVER_TOOLS,
        Need.BUILT_IN_TOOLS,
        Need.LOGPROBS,
    )
)


def find_loss(call: Call) -> str:
    """What of a call's body its typed form would lose, as a clause; "" for nothing."""
    beyond = sorted(need.value for need in _BEYOND & (call.needs | call.wants))
    if beyond:
        return f"it asks for {beyond[0]}"
    known = _READ.get(call.dialect)
    if call.raw is None or known is None:
        return ""
    try:
        members = _body.decode(call.raw.body)
        messages = _messages.decode(members["messages"]) if "messages" in members else ()
        nested = list(find_nested(members))
    except UNREADABLE:
        return "its body is written in an unusual way"
    odd = [name for message in messages for name in message.keys() - _OF_A_MESSAGE]
    odd += [
        name
        for name, value in members.items()
        if name not in known and name not in _OF_NO_MATTER and not _is_ordinary(name, bytes(value))
    ]
    odd += nested
    return f"only its server can read the member {odd[0][:40]!r}" if odd else ""


def _is_ordinary(name: str, value: bytes) -> bool:
    return value == b"null" or value in _ORDINARY.get(name, ())
