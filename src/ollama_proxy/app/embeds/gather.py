"""Single texts that come while all who could take them are busy: those of a few milliseconds go as one request.

Nobody waits where somebody is idle, and no longer than the window in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ollama_proxy.app.embeds.part import Part, PartSink, make_part
from ollama_proxy.domain.answer import Embeddings, Outcome
from ollama_proxy.domain.call import Call, Embedding
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Ticket
from ollama_proxy.fleet.embed_speeds import weigh

#: A request that is this full goes at once.
_MOST_TEXTS = 64
#: One text may be at fault for all of them; each is tried by itself then.
_OWN_FAULTS = frozenset((ErrorKind.INVALID_REQUEST, ErrorKind.BACKEND_REFUSED, ErrorKind.TOO_LARGE))
_encode = msgspec.json.Encoder().encode
#: What requests must have in common to go together.
Key = tuple[str, int, bytes, frozenset[str] | None, bytes]


class Sender(Protocol):
    """Where requests go on."""

    def open_part(self, call: Call, sink: AnswerSink) -> Ticket:
        """Send one on its way."""

    def gathered(self, texts: int) -> None:
        """So many go as one request."""

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something in a moment."""

    def let_in(self, call: Call, sink: AnswerSink) -> bool:
        """Whether the limits of a request's key allow it; tells its client if not."""

    def batch_ended(self, call: Call, outcome: Outcome | None) -> None:
        """One that was let in is over, with its outcome if it ended well."""


class _Single:
    """One text, and the ticket of its client."""

    def __init__(self, group: _Group, call: Call, sink: AnswerSink) -> None:
        self._group = group
        self.call = call
        self.sink = sink
        self.ticket: Ticket | None = None
        self.gone = False

    def cancel(self) -> None:
        """The client has gone."""
        if not self.gone:
            self.gone = True
            self._group.left(self)

    def pause(self) -> None:
        """The answer is one small piece."""

    def resume(self) -> None:
        """As `pause`."""


class _Group:
    """Those that go together."""

    def __init__(self, owner: Gatherer, key: Key, caller: Caller) -> None:
        self._owner = owner
        self._key = key
        self._caller = caller
        self._singles: list[_Single] = []
        self._texts: list[str] = []
        self._ticket: Ticket | None = None
        self._sent = False

    def add(self, call: Call, embedding: Embedding, sink: AnswerSink) -> _Single:
        single = _Single(self, call, sink)
        self._singles.append(single)
        self._texts.append(embedding.inputs[0])
        self._embedding = embedding
        if len(self._singles) >= _MOST_TEXTS:
            self.flush()
        return single

    def flush(self) -> None:
        """Send what is there."""
        if self._sent:
            return
        self._sent = True
        self._owner.forget(self._key, self)
        # Whoever has gone meanwhile is not asked for.
        self._keep([single for single in self._singles if not single.gone])
        if len(self._singles) > 1:
            sender = self._owner.sender
            self._keep([single for single in self._singles if sender.let_in(single.call, single.sink)])
            self._send_together()
        else:
            self._send_each()

    def _keep(self, singles: list[_Single]) -> None:
        kept = set(singles)
        self._texts = [text for single, text in zip(self._singles, self._texts, strict=True) if single in kept]
        self._singles = singles

    def _send_together(self) -> None:
        if self._singles:
            embedding = msgspec.structs.replace(self._embedding, inputs=tuple(self._texts))
            self._owner.sender.gathered(len(self._texts))
            call = make_part(self._singles[0].call, f"x{len(self._texts)}", embedding, self._caller)
            self._ticket = self._owner.sender.open_part(call, PartSink(len(self._texts), self._done, self._failed))

    def _send_each(self) -> None:
        for single in self._singles:
            single.ticket = self._owner.sender.open_part(single.call, single.sink)

    def left(self, single: _Single) -> None:
        """One client has gone; the work goes on as long as another waits for it."""
        if single.ticket is not None:
            single.ticket.cancel()
        elif self._ticket is not None:
            self._owner.sender.batch_ended(single.call, None)
            if all(one.gone for one in self._singles):
                self._ticket.cancel()

    def _done(self, part: Part) -> None:
        shares = _share(part.outcome, [weigh(text) for text in self._texts])
        for single, vector, outcome in zip(self._singles, part.vectors, shares, strict=True):
            if single.gone:
                continue
            single.gone = True
            self._owner.sender.batch_ended(single.call, outcome)
            single.sink.routed(part.route)
            single.sink.send_events((Embeddings((vector,)),))
            single.sink.finish(outcome)

    def _failed(self, error: ProxyError) -> None:
        if error.kind in _OWN_FAULTS:
            self._keep([single for single in self._singles if not single.gone])
            for single in self._singles:
                self._owner.sender.batch_ended(single.call, None)
            self._send_each()
            return
        for single in self._singles:
            if not single.gone:
                single.gone = True
                self._owner.sender.batch_ended(single.call, None)
                single.sink.fail(error)


class Gatherer:
    """Groups that are being gathered."""

    def __init__(self, sender: Sender, window_s: float) -> None:
        """`window_s` is how long the first of a group waits at most; 0 gathers nothing."""
        self.sender = sender
        self.window_s = window_s
        self._groups: dict[Key, _Group] = {}

    def add(self, call: Call, embedding: Embedding, allowed: frozenset[str] | None, sink: AnswerSink) -> Ticket:
        """Hold a request for one text; `allowed` are the backends that may answer, None for all of the caller's."""
        options = _encode(msgspec.structs.replace(embedding, inputs=()))
        key = (call.model, id(call.caller), _encode(call.annotations), allowed, options)
        group = self._groups.get(key)
        if group is None:
            caller = call.caller
            backends = allowed if caller.backends is None or allowed is None else allowed & caller.backends
            group = _Group(self, key, Caller(caller.name, caller.permissions, backends=backends or caller.backends))
            self._groups[key] = group
            self.sender.later(self.window_s, group.flush)
        return group.add(call, embedding, sink)

    def forget(self, key: Key, group: _Group) -> None:
        """A group is on its way: the next begin another."""
        if self._groups.get(key) is group:
            del self._groups[key]


def _share(outcome: Outcome, weights: Sequence[int]) -> list[Outcome]:
    """The outcome of each of several texts: tokens and joules by their sizes, the times as they were for all."""
    whole = sum(weights)
    tokens = outcome.finished.usage.prompt_tokens
    shares = []
    given = seen = 0
    for weight in weights:
        seen += weight
        mine = None if tokens is None else round(tokens * seen / whole) - given
        given += mine or 0
        part = weight / whole
        usage = msgspec.structs.replace(outcome.finished.usage, prompt_tokens=mine)
        shares.append(
            msgspec.structs.replace(
                outcome,
                finished=msgspec.structs.replace(outcome.finished, usage=usage),
                joules=_times(outcome.joules, part),
                energy_marginal_j=_times(outcome.energy_marginal_j, part),
                energy_full_j=_times(outcome.energy_full_j, part),
                plus_minus_j=_times(outcome.plus_minus_j, part),
            )
        )
    return shares


def _times(joules: float | None, part: float) -> float | None:
    return None if joules is None else joules * part
