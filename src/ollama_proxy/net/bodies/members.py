"""Whether a request can be told otherwise than in its own bytes without a loss.

Only then its answer may be kept, or continued by another backend. An answer that is to be kept is asked for in the
typed form, and so is the rest of one that broke off, unless the next server reads the client's own dialect. A member of
the body that is dropped on the way, or means something else in the middle of an answer, would change the text.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ollama_proxy.domain.call import Call, Dialect, Need, Operation
from ollama_proxy.net.bodies.nested_members import find_changed, find_nested
from ollama_proxy.net.bodies.unreadable import UNREADABLE


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
#: Of OpenAI's API and its servers' own: what holds in the middle of an answer as at its beginning, and only has to be
#: said again. Whatever may be a grammar is not here, and so is nothing that is not known.
_SAID_AGAIN = _words(
    "logit_bias stop_token_ids bad_words allowed_token_ids ignore_eos min_tokens repeat_penalty repetition_penalty "
    "repeat_last_n dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers xtc_probability "
    "xtc_threshold typical_p top_n_sigma dynatemp_range dynatemp_exponent samplers min_keep chat_template_kwargs "
    "chat_template documents reasoning_format include_reasoning skip_special_tokens spaces_between_special_tokens "
    "add_special_tokens add_generation_prompt continue_final_message cache_prompt id_slot priority timings_per_token "
    "return_progress request_id verbosity"
)
#: A body of Anthropic's may have this when its answer is past thinking.
_THOUGHT = "thinking"
#: Anthropic's servers join texts as the typed form does.
_JOINED = ": several texts"
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
_UNUSUAL = "its body is written in an unusual way"


def find_loss(call: Call) -> str:
    """What of a call's body its typed form would lose, as a clause; "" for nothing."""
    beyond = _find_beyond(call)
    if beyond:
        return f"it asks for {beyond}"
    odd = _list_lost(call, anew=True)
    if odd is None:
        return _UNUSUAL
    return f"only its server can read the member {odd[0][:40]!r}" if odd else ""


def find_untold(call: Call) -> str:
    """Why a server that is asked in the typed form cannot go on with a call's answer, as a clause; "" if it can."""
    beyond = _find_beyond(call)
    if beyond:
        return _refuse(beyond)
    odd = _list_lost(call)
    if odd is None:
        return _UNUSUAL
    if call.dialect is Dialect.ANTHROPIC:
        odd = [name for name in odd if name != _THOUGHT and not name.endswith(_JOINED)]
    return _refuse(odd[0]) if odd else ""


def find_uncarried(call: Call) -> str:
    """Why nobody at all can go on with a call's answer, as a clause; "" if a server that reads the client's own dialect
    can: what has a meaning of its own in the middle of an answer, or may have one."""
    if call.dialect is not Dialect.OPENAI or call.raw is None:
        return find_untold(call)
    known = _READ[Dialect.OPENAI] | _SAID_AGAIN
    if call.operation is Operation.COMPLETE:
        # The prompt said again is part of what was sent.
        known |= {"echo"}
    try:
        odd = _list_unknown(_body.decode(call.raw.body), known)
    except UNREADABLE:
        return _UNUSUAL
    return _refuse(odd[0]) if odd else ""


def _refuse(name: str) -> str:
    return f"{name[:40]!r} cannot be carried over"


def _find_beyond(call: Call) -> str:
    return min((need.value for need in _BEYOND & (call.needs | call.wants)), default="")


def _list_lost(call: Call, *, anew: bool = False) -> list[str] | None:
    """Members of a call's body that its typed form does not have; None for a body that cannot be read. `anew` is for an
    answer from its beginning, which may depend on more."""
    known = _READ.get(call.dialect)
    if call.raw is None or known is None:
        return []
    try:
        members = _body.decode(call.raw.body)
        odd = _list_odd(members, known)
        return [*odd, *find_changed(call.dialect, members)] if anew else odd
    except UNREADABLE:
        return None


def _list_odd(members: Mapping[str, msgspec.Raw], known: frozenset[str]) -> list[str]:
    """Members that are not known, of the body and of what is in it. Raises what `UNREADABLE` names."""
    messages = _messages.decode(members["messages"]) if "messages" in members else ()
    odd = [name for message in messages for name in message.keys() - _OF_A_MESSAGE]
    return [*odd, *_list_unknown(members, known), *find_nested(members)]


def _list_unknown(members: Mapping[str, msgspec.Raw], known: frozenset[str]) -> list[str]:
    return [
        name
        for name, value in members.items()
        if name not in known and name not in _OF_NO_MATTER and not _is_ordinary(name, bytes(value))
    ]


def _is_ordinary(name: str, value: bytes) -> bool:
    return value == b"null" or value in _ORDINARY.get(name, ())
