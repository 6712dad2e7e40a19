"""A cut stream goes on elsewhere: what the client has, whether and how the rest can be asked for, one end. Without I/O.

The client keeps what it was sent; the next backend is asked to go on behind it. Nothing is said twice and nothing is
left out, except that a seam inside a word may be tokenised otherwise than the uncut answer was.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.answer import (
    AnswerEvent,
    Embeddings,
    Finished,
    Progress,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
)
from ollama_proxy.domain.call import Call, Continued, Dialect, Generation, Need, Operation
from ollama_proxy.domain.errors import ProxyError

#: Requests that are text from beginning to end.
_TEXT = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE))
#: What cannot be taken up from a typed request, with the words that say so.
_RAW_ONLY = (
    (Need.CHOICES, "it has several choices"),
    (Need.AUDIO, "it speaks"),
)
_GRAMMAR = "its format is a grammar, which would begin anew"
_LOGPROBS = "log probabilities do not join"


class Sent:
    """What a client holds of an answer."""

    __slots__ = ("_text", "_thinking", "called", "last_s", "tokens", "ttft_s")

    def __init__(self, ttft_s: float | None = None) -> None:
        """`ttft_s` is how long the client waited for the first of it."""
        self.ttft_s = ttft_s
        #: When the client got the last of it, in monotonic seconds.
        self.last_s = 0.0
        self._text: list[str] = []
        self._thinking: list[str] = []
        #: A tool call was sent: what follows it is the client's to do.
        self.called = False
        #: Counted by pieces, of which servers send one a token.
        self.tokens = 0

    def add(self, events: Sequence[AnswerEvent], tokens: int) -> None:
        """The client has got these too, which are so many tokens."""
        self.tokens += tokens
        for event in events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case ThinkingDelta(text):
                    self._thinking.append(text)
                case ToolCall() | Embeddings():
                    self.called = True

    @property
    def text(self) -> str:
        """All of the answer's text."""
        self._text = ["".join(self._text)]
        return self._text[0]

    @property
    def thinking(self) -> str:
        """All of its reasoning."""
        self._thinking = ["".join(self._thinking)]
        return self._thinking[0]


def why_not(call: Call, sent: Sent | None = None) -> str:
    """Why an answer cannot be continued, as the end of a sentence; "" if it can. `sent` None is some of its text."""
    if call.operation not in _TEXT:
        return "only text can be continued"
    if call.annotations.continuation == "never":
        return "the request does not wish it"
    if not call.caller.continues:
        return f"the key {call.caller.name} does not wish it"
    if sent is not None and sent.called:
        return "a tool was called"
    if sent is not None and 0 < call.max_tokens <= sent.tokens:
        return "its limit of tokens is reached"
    return _why_raw(call) or (_why_whole(call) if sent is None or sent.tokens else "")


def _why_raw(call: Call) -> str:
    """What of a request only its own dialect can say, so that what was read of the stream is not all of it."""
    asked = call.needs | call.wants
    return next((reason for need, reason in _RAW_ONLY if need in asked), "")


def _why_whole(call: Call) -> str:
    """What of a request a second server cannot take up in the middle; not all of it is among the needs."""
    try:
        whole = call.typed()
    except ProxyError:
        return "the request cannot be translated"
    if isinstance(whole, Generation) and whole.format:
        return _GRAMMAR
    return _LOGPROBS if isinstance(whole, Generation) and whole.logprobs else ""


def find_end(call: Call, before: Sent | None, progress: Progress) -> Finished | None:
    """The end of an answer that broke off when all of it was there; `before` is what others had sent of it."""
    if call.operation not in _TEXT or _why_raw(call):
        return None
    if progress.finished is not None:
        return _without_guess(call, progress.finished)
    tokens = progress.tokens + (before.tokens if before is not None else 0)
    if not progress.calling and 0 < call.max_tokens <= tokens:
        return Finished("length", Usage(output_tokens=progress.tokens, counted_events=True))
    return None


def _without_guess(call: Call, finished: Finished) -> Finished:
    """An end whose tokens were counted by pieces: what a stop word holds back comes as several in one piece."""
    usage = finished.usage
    if usage.counted_events and usage.output_tokens is not None and _has_stops(call):
        return msgspec.structs.replace(finished, usage=msgspec.structs.replace(usage, output_tokens=None))
    return finished


def _has_stops(call: Call) -> bool:
    try:
        whole = call.typed()
    except ProxyError:
        return False
    return isinstance(whole, Generation) and bool(whole.sampling.stop)


def continue_call(call: Call, sent: Sent, *, raw: bool = False, untold: str = "") -> Call:
    """The call that asks for the rest of an answer; `raw` if servers that read it as it came have written the first
    part, and then `untold` as in `Continued`.

    Where nothing was said yet but that something would follow, it is the same call once more.
    """
    if not sent.tokens:
        again = None if call.dialect is Dialect.RESPONSES else call.raw
        return msgspec.structs.replace(call, raw=again, begun=True)
    left = max(1, call.max_tokens - sent.tokens) if call.max_tokens else 0
    whole = call.typed

    def ask_for_rest() -> Generation:
        generation = whole()
        assert isinstance(generation, Generation)
        if not left:
            return generation
        sampling = msgspec.structs.replace(generation.sampling, num_predict=left)
        return msgspec.structs.replace(generation, sampling=sampling)

    continued = Continued(sent.text, sent.thinking, sent.tokens, call.raw if raw else None, untold if raw else "")
    return msgspec.structs.replace(call, typed=ask_for_rest, raw=None, max_tokens=left, continued=continued)


def join_ends(sent: Sent, finished: Finished) -> Finished:
    """The end of the whole answer, from that of its last part.

    Tokens of the answer are all that were written; of the prompt, those that were read less what was sent before,
    which the last backend had to read as well: unknown where it tells of fewer than that. Its durations are those of
    the last part alone, and are left out.
    """
    usage = finished.usage
    output = usage.output_tokens
    joined = Usage(
        usage.prompt_before(sent.tokens), None if output is None else output + sent.tokens, counted_events=True
    )
    return msgspec.structs.replace(finished, usage=joined)
