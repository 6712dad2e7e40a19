"""A kept answer, and its bytes in a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Route, TextDelta, ThinkingDelta, ToolCall

#: Text goes out in pieces of so many characters, so that no line of a stream is longer than clients expect.
_PIECE_CHARS = 4096
_REASONS = frozenset(("stop", "length", "tool_calls"))


class _Text(msgspec.Struct, frozen=True, tag="t", array_like=True):
    text: str


class _Thought(msgspec.Struct, frozen=True, tag="r", array_like=True):
    text: str
    signature: str


class _Use(msgspec.Struct, frozen=True, tag="c", array_like=True):
    index: int
    id: str
    name: str
    arguments: str


_Part = _Text | _Thought | _Use


class Entry(msgspec.Struct, frozen=True):
    """An answer that ended well. `joules` is what it took, of kind `energy_kind`; None where nobody knows.

    `decision_id` names the decision that it was made by, `seconds` how long it took.
    """

    parts: tuple[_Part, ...]
    finished: Finished
    backend: str
    model: str
    made_unix_s: float
    joules: float | None
    energy_kind: str
    seconds: float
    decision_id: str

    def events(self) -> list[AnswerEvent]:
        """The answer as a backend would have told it."""
        found: list[AnswerEvent] = []
        for part in self.parts:
            match part:
                case _Text(text):
                    found += [TextDelta(piece) for piece in _cut(text)]
                case _Thought(text, signature):
                    *first, last = _cut(text)
                    found += [ThinkingDelta(piece) for piece in first]
                    found.append(ThinkingDelta(last, signature))
                case _Use(index, ident, name, arguments):
                    found.append(ToolCall(index, ident, name, arguments))
        return found


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Entry)


def write_entry(entry: Entry) -> bytes:
    """The bytes of an answer."""
    return _encode(entry)


def read_entry(data: bytes) -> Entry | None:
    """The answer in some bytes; None where there is none that this version can read."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def make_entry(parts: tuple[_Part, ...], route: Route, outcome: Outcome, made_unix_s: float) -> Entry:
    """An answer that has just ended well."""
    return Entry(
        parts,
        outcome.finished,
        route.backend,
        route.model,
        made_unix_s,
        outcome.joules,
        outcome.energy_kind,
        outcome.total_s,
        route.decision_id,
    )


def gather(events: Iterable[AnswerEvent]) -> tuple[_Part, ...] | None:
    """The parts of an answer, pieces joined; None where there is something in it that is not kept."""
    found: list[_Part] = []
    texts: list[str] = []
    kind: type[AnswerEvent] | None = None
    signature = ""

    def close() -> None:
        nonlocal texts, signature
        if texts or signature:
            joined = "".join(texts)
            found.append(_Text(joined) if kind is TextDelta else _Thought(joined, signature))
        texts, signature = [], ""

    for event in events:
        if type(event) is not kind:
            close()
            kind = type(event)
        match event:
            case TextDelta(text, ()):
                texts.append(text)
            case ThinkingDelta(text, told):
                texts.append(text)
                signature += told
            case ToolCall(index, ident, name, arguments):
                found.append(_Use(index, ident, name, arguments))
            case _:
                return None
    close()
    return tuple(found)


def may_be_kept(finished: Finished, parts: Sequence[_Part]) -> bool:
    """Whether an answer is a whole one: it ended by itself or at its limit, said something, and calls what it ends
    with calling."""
    calls = any(isinstance(part, _Use) for part in parts)
    says = calls or any(part.text for part in parts if not isinstance(part, _Use))
    return says and finished.reason in _REASONS and (finished.reason != "tool_calls" or calls)


def _cut(text: str) -> list[str]:
    if len(text) <= _PIECE_CHARS:
        return [text]
    return [text[begin : begin + _PIECE_CHARS] for begin in range(0, len(text), _PIECE_CHARS)]
