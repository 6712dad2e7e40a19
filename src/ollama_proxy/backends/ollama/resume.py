"""The rest of an answer that another backend has begun, from an Ollama server.

It has no word for that, and two ways lead there.

Rendered: the server is asked to write the prompt down as the model would read it (`_debug_render_only`), and the answer
so far is put behind it as a raw prompt. That is exact for every model, but nobody then reads tool calls or thinking out
of what the model writes.

Open turn: the conversation is sent with the answer so far as its last turn. Whether the model goes on with that or
begins a new turn depends on its template, and nothing in the answer tells. So each model is tried out first, once for
each of its digests and each version of the server: "1, 2, 3," has to be followed by 4. It is tried at the moment of
need, which costs four tokens where they are waited for, and not beforehand, which would load models that nobody may
ever ask for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.backends.ollama.answers import AnswerDecoder
from ollama_proxy.backends.ollama.habits import Habits
from ollama_proxy.backends.ollama.requests import (
    encode_behind_prompt,
    encode_open_turn,
    encode_rendering,
    encode_trial,
)
from ollama_proxy.domain.answer import Progress
from ollama_proxy.domain.call import Call, Continued, Generation
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink, Relay
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.lanes.rest_lane import RestOfAnswer
from ollama_proxy.net.lanes.upstream import HttpAttempt, join_request

_MOST_BYTES = 16 * 1024 * 1024
#: A prompt that ends like this has the model think first.
_THINKS_FIRST = re.compile(r"<(think|thinking|\|START_THINKING\|)>\s*\Z")
_LIMIT = re.compile(r"^num_predict\s+(-?\d+)$", re.MULTILINE)


class _DebugInfo(msgspec.Struct):
    rendered_template: str
    image_count: int = 0


class _Rendered(msgspec.Struct):
    info: _DebugInfo | None = msgspec.field(default=None, name="_debug_info")


class _Turn(msgspec.Struct):
    content: str = ""


class _Tried(msgspec.Struct):
    message: _Turn


class _Shown(msgspec.Struct):
    parameters: str = ""


_rendered = msgspec.json.Decoder(_Rendered)
_tried = msgspec.json.Decoder(_Tried)
_shown = msgspec.json.Decoder(_Shown)


class RestAttempt:
    """An attempt that asks for the rest: short questions first, then the one whose answer the client gets."""

    def __init__(
        self,
        sink: AttemptSink,
        pool: OriginPool,
        make_head: Callable[[bytes], bytes],
        call: Call,
        model: str,
        habits: Habits,
    ) -> None:
        """`make_head` makes the head of a request to a path."""
        typed, sent = call.typed(), call.continued
        assert isinstance(typed, Generation)
        assert sent is not None
        self._owner = sink
        self._pool = pool
        self._make_head = make_head
        self._operation = call.operation
        self._model = model
        self._habits = habits
        self._typed = typed
        self._sent: Continued = sent
        #: What is under way: a question, or the answer itself.
        self._question: Relay | None = None
        self._answer: HttpAttempt | None = None
        self._paused = False

    def send(self) -> RestAttempt:
        """Ask the first question; answers come later."""
        limit = self._habits.find_limit(self._model)
        if self._typed.sampling.num_predict is None and limit is None:
            self._ask((b"/api/show", {"model": self._model}), self._take_limit)
        else:
            self._begin(limit or 0)
        return self

    # -- the questions ---------------------------------------------------------

    def _take_limit(self, status: int, body: bytes) -> None:
        """A model may have a limit of its own, and the part before the seam counts as well."""
        limit = 0
        if status == 200:
            found = _LIMIT.search(_shown.decode(body).parameters)
            limit = max(0, int(found[1])) if found else 0
            self._habits.keep_limit(self._model, limit)
        self._begin(limit)

    def _begin(self, limit: int) -> None:
        typed, sent = self._typed, self._sent
        if typed.sampling.num_predict is None and limit:
            if sent.tokens >= limit:
                self._fail("the model's own limit of tokens is reached")
                return
            sampling = msgspec.structs.replace(typed.sampling, num_predict=limit - sent.tokens)
            self._typed = typed = msgspec.structs.replace(typed, sampling=sampling)
        if typed.raw:
            self._answer_with(encode_behind_prompt(typed, self._model, typed.prompt + sent.text))
        elif not self._habits.may_go_on(self._model):
            self._fail("models of this family cannot be continued here")
        elif sent.thinking or typed.tools or not self._habits.renders:
            self._try_open_turn()
        else:
            self._ask(encode_rendering(typed, self._model, self._operation), self._take_rendered)

    def _take_rendered(self, status: int, body: bytes) -> None:
        info = _rendered.decode(body).info if status == 200 else None
        if status == 200 and info is None:
            self._habits.renders = False
        images = len(self._typed.images) + sum(len(message.images) for message in self._typed.messages)
        if info is None or info.image_count != images or _THINKS_FIRST.search(info.rendered_template):
            self._try_open_turn()
            return
        prompt = info.rendered_template + self._sent.text
        self._answer_with(encode_behind_prompt(self._typed, self._model, prompt))

    def _try_open_turn(self) -> None:
        key = self._habits.find_key(self._model)
        if not self._sent.text:
            self._fail("it was still thinking")
        elif not key:
            self._fail("the server does not say which model this is")
        elif (goes_on := self._habits.open_turns.get(key)) is None:
            self._ask(encode_trial(self._model, self._typed.keep_alive), self._take_trial)
        else:
            self._use_open_turn(goes_on=goes_on)

    def _take_trial(self, status: int, body: bytes) -> None:
        if status != 200:
            self._fail(f"trying the model out was answered with HTTP {status}")
            return
        goes_on = _tried.decode(body).message.content.lstrip().startswith("4")
        self._habits.open_turns[self._habits.find_key(self._model)] = goes_on
        self._use_open_turn(goes_on=goes_on)

    def _use_open_turn(self, *, goes_on: bool) -> None:
        if goes_on:
            # Whoever says the open turn again has failed the trial: there the 4 had to come first.
            self._answer_with(encode_open_turn(self._typed, self._model, self._sent))
        else:
            self._fail("the model begins a new turn instead of going on with an open one")

    def _ask(self, asked: tuple[bytes, object], take: Callable[[int, bytes], None]) -> None:
        path, document = asked
        request = join_request(self._make_head(path), msgspec.json.encode(document))
        self._question = self._pool.send(request, _Question(take, self._fail_with))

    def _answer_with(self, asked: tuple[bytes, msgspec.Struct]) -> None:
        path, document = asked
        attempt = RestOfAnswer(self._owner, AnswerDecoder())
        if self._paused:
            attempt.pause()
        self._question = None
        self._answer = attempt.send(self._pool, join_request(self._make_head(path), msgspec.json.encode(document)))

    def _fail(self, why: str) -> None:
        self._fail_with(Failure(FailureKind.UNABLE, why))

    def _fail_with(self, failure: Failure) -> None:
        self._question = None
        self._owner.on_failure(failure)

    # -- the attempt -----------------------------------------------------------

    @property
    def relayed(self) -> int:
        return 0

    def abort(self) -> None:
        under_way = self._answer or self._question
        if under_way is not None:
            under_way.abort()

    def pause(self) -> None:
        self._paused = True
        if self._answer is not None:
            self._answer.pause()

    def resume(self) -> None:
        self._paused = False
        if self._answer is not None:
            self._answer.resume()

    def kept_bytes(self) -> int:
        return self._answer.kept_bytes() if self._answer is not None else 0

    def read_kept(self) -> None:
        if self._answer is not None:
            self._answer.read_kept()

    def give_up_kept(self) -> None:
        if self._answer is not None:
            self._answer.give_up_kept()

    def wrote_plain_text(self) -> bool:
        return self._answer is not None and self._answer.wrote_plain_text()

    def take_over(self) -> Progress | None:
        return self._answer.take_over() if self._answer is not None else None


class _Question:
    """Gathers a short answer, and hands it to who asked."""

    def __init__(self, take: Callable[[int, bytes], None], fail: Callable[[Failure], None]) -> None:
        self._take = take
        self._fail = fail
        self._status = 0
        self._body = bytearray()

    def on_response(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status

    def on_body(self, data: bytes) -> None:
        if len(self._body) < _MOST_BYTES:
            self._body += data

    def on_complete(self) -> None:
        try:
            self._take(self._status, bytes(self._body))
        except UNREADABLE as error:
            self._fail(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))

    def on_error(self, failure: Failure) -> None:
        self._fail(failure)
