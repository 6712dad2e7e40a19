"""What a backend answers, in one vocabulary: the events of the translate lane and the facts of the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class TextDelta(msgspec.Struct, frozen=True):
    """The next piece of the answer's text.

    `logprobs` has an entry for each of its tokens when they were asked for: `token`, `logprob`, `bytes` and
    `top_logprobs`, the same members in Ollama's and OpenAI's dialect.
    """

    text: str
    logprobs: tuple[Any, ...] = ()


class ThinkingDelta(msgspec.Struct, frozen=True):
    """The next piece of the model's reasoning; `signature` proves it to the server that made it, and to no other."""

    text: str
    signature: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """One whole call of a tool; `arguments` is JSON text of an object."""

    index: int
    id: str
    name: str
    arguments: str


class Embeddings(msgspec.Struct, frozen=True):
    """One vector for each input, in order."""

    vectors: tuple[tuple[float, ...], ...]


AnswerEvent = TextDelta | ThinkingDelta | ToolCall | Embeddings


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts and the backend's own durations in nanoseconds; None where the backend did not say."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    total_ns: int | None = None
    load_ns: int | None = None
    prompt_ns: int | None = None
    decode_ns: int | None = None
    #: Those of the prompt that a cache of the server spared it, as far as it says.
    cached_tokens: int | None = None
    #: The server gave no counts: `output_tokens` is the number of events.
    counted_events: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether a stream ended before its server told the counts, and one of them is known to nobody."""
        return self.counted_events and (self.prompt_tokens is None or self.output_tokens is None)

    def prompt_before(self, sent: int) -> int | None:
        """Tokens of the prompt alone, where so many of the answer were sent before and had to be read behind it; None
        where the backend did not say, or tells of fewer than those."""
        read = self.prompt_tokens
        return None if read is None or read < sent else read - sent


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The regular end of an answer; `reason` is `stop`, `length`, `tool_calls`, `content_filter`, `load` or `unload`.

    `stop_sequence` is the text that ended it, where the server says so.
    """

    reason: str = "stop"
    usage: Usage = Usage()
    stop_sequence: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far a stream came that broke off: all its events (pieces of text may be joined), the number of tokens in
    them, and whether the call of a tool had begun.

    `first` and `last` hold the first and the last bytes that the client got where they are the backend's own: its ids
    are in them, and what stands open at the end. `finished` is set where all was told but the end marker; then `rest`
    are events that only become known with the end.
    """

    events: Sequence[AnswerEvent]
    tokens: int
    calling: bool = False
    first: bytes = b""
    last: bytes = b""
    finished: Finished | None = None
    rest: Sequence[AnswerEvent] = ()
    #: Of a dialect whose events name the parts of an answer: those events, as they came.
    landmarks: Sequence[bytes] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """An answer that ended well, with what it took. Seconds count from the arrival of the request.

    Its energy is what is known at once; the ledger has the settled figure. `energy_marginal_j` is what the device spent
    more for having this request, `energy_full_j` has a share of its idle draw in it, either within `plus_minus_j` in
    nine of ten; None where that is not known yet.
    """

    finished: Finished
    ttft_s: float
    total_s: float
    output_tokens: int
    tokens_per_second: float
    joules: float | None
    energy_kind: str
    energy_marginal_j: float | None = None
    energy_full_j: float | None = None
    plus_minus_j: float | None = None


class CacheNote(msgspec.Struct, frozen=True, gc=False):
    """What the cache did for an answer that may come from it.

    `state` is `hit` (made for an earlier request, or for an equal one that was under way), `miss` (made for this one,
    and kept if it can be) or `bypass` (the request asked for the cache and cannot have it). `age_s` is that of a kept
    answer; `similarity` that of the prompt it was made for, None where it was the same request.
    """

    state: str
    age_s: float | None = None
    similarity: float | None = None
    #: Of a bypass: why, as a clause.
    reason: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """The answer headers that say so."""
        found = [("X-Cache", self.state)]
        if self.reason:
            found.append(("X-Cache-Reason", self.reason))
        if self.age_s is not None:
            found.append(("X-Cache-Age", str(int(self.age_s))))
        if self.similarity is not None:
            found.append(("X-Cache-Similarity", f"{self.similarity:.4f}"))
        return found


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where a request went and why: what the answer headers and the gRPC routing message say."""

    decision_id: str
    backend: str
    reason: str
    power_watts: float
    latency_ms: int
    alternatives: tuple[str, ...]
    attempts: int
    energy_kind: str
    model: str
    stand_in: bool = False
    #: None where the request has nothing to do with the cache.
    cache: CacheNote | None = None
    #: Passages that stood in front of the question, in the order of their numbers: `file:start-end`, joined by comma.
    retrieved: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """The contract's answer headers, in order."""
        found = [
            ("X-Backend-Used", self.backend),
            ("X-Routing-Reason", self.reason),
            # Unknown is absent, not zero.
            *([("X-Estimated-Power-Watts", f"{self.power_watts:.1f}")] if self.power_watts else []),
            ("X-Estimated-Latency-Ms", str(self.latency_ms)),
            ("X-Alternatives", ",".join(self.alternatives)),
            ("X-Decision-ID", self.decision_id),
            ("X-Attempts", str(self.attempts)),
            ("X-Energy-Kind", self.energy_kind),
        ]
        if self.stand_in:
            found.append(("X-Model-Used", self.model))
        if self.cache is not None:
            found += self.cache.headers()
        if self.retrieved:
            found.append(("X-Retrieved", self.retrieved))
        return found
