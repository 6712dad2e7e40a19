"""Where emulated answers take their words from: made up by a seed, or from the embedded model.

Made-up text depends on seed, model and prompt only, not on the device: so a text that one device began can be checked
against the same text from another.

A prompt may say how long its answer is, with `[[answer tokens: 211]]` somewhere in it. So an experiment knows every
length, and a proxy in between does not: to it the answer ends by itself, after so many tokens.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from ollama_proxy.domain.call import Generation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.lanes.framing import event_data
from ollama_proxy.net.lanes.upstream import join_request, request_head

_SENTENCE = (
    "the device answers with measured words and every token arrives in its own time while power flows from one part "
    "of the fleet to another so that a small question never wakes a large card unless somebody waits for it"
)
_WORDS = _SENTENCE.split()
_LEAST, _MOST = 24, 72
_MOST_ASKED = 8192
_ASKED_LENGTH = re.compile(r"\[\[answer tokens: (\d{1,4})\]\]")
_TIMEOUT_S = 60.0
_MAX_REAL_TOKENS = 256


class TextSource(Protocol):
    """Gives the tokens of an answer, and why it ends (`stop` or `length`)."""

    async def write(self, model: str, request: Generation) -> tuple[list[str], str]:
        """The whole text at once; pacing is the device's affair."""


def prompt_of(request: Generation) -> str:
    """The text of a request, the same for a prompt and for a chat of one turn."""
    parts = [request.system, request.prompt, *(message.content for message in request.messages)]
    return "\n".join([part for part in parts if part])


class SyntheticText:
    """Word-like tokens from a seed. Unlike a real model it writes as much as it may: a limit sets the length."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    async def write(self, model: str, request: Generation) -> tuple[list[str], str]:
        if request.messages and request.messages[-1].role == "assistant":
            rest = self._go_on(model, request)
            if rest is not None:
                return rest
        return self._write(model, request)

    def _go_on(self, model: str, request: Generation) -> tuple[list[str], str] | None:
        """The rest of an answer whose beginning stands in the last turn; None where that is none of ours."""
        said = request.messages[-1].content
        sampling, limit = request.sampling, request.sampling.num_predict
        if limit is not None and limit > 0:
            # The limit is what is left of the whole answer's.
            sampling = msgspec.structs.replace(sampling, num_predict=limit + (said.count(" ") + 1 if said else 0))
        asked = msgspec.structs.replace(request, messages=request.messages[:-1], sampling=sampling)
        tokens, reason = self._write(model, asked)
        for place in range(len(tokens) + 1):
            if "".join(tokens[:place]) == said:
                return tokens[place:], reason
        # Every model that goes on with an open turn can count.
        counted = re.search(r"(\d+),\Z", said)
        return ([f" {int(counted[1]) + 1}"], "stop") if counted else None

    def _write(self, model: str, request: Generation) -> tuple[list[str], str]:
        prompt = prompt_of(request)
        dice = random.Random(f"{self._seed}\0{model}\0{prompt}")
        length = dice.randint(_LEAST, _MOST)
        limit = request.sampling.num_predict
        wanted = min(limit, _MOST_ASKED) if limit is not None and limit > 0 else length
        if (told := _ASKED_LENGTH.search(prompt)) is not None:
            length = min(max(int(told[1]), 1), _MOST_ASKED)
            wanted = min(wanted, length) if limit is not None and limit > 0 else length
        if request.format is not None:
            tokens = _as_json(dice, request.format)
            return (tokens[:limit], "length") if limit is not None and 0 < limit < len(tokens) else (tokens, "stop")
        words = [dice.choice(_WORDS) for _ in range(wanted)]
        tokens = [words[0].capitalize(), *(f" {word}" for word in words[1:])]
        if sizes := _image_sizes(request):
            # What was seen is said, so that a test can tell that it came.
            tokens[:1] = [f"Saw images of {' and '.join(map(str, sizes))} bytes:", f" {words[0]}"]
        reason = "length" if limit is not None and 0 < limit < length else "stop"
        return _cut_at_stop(tokens, request.sampling.stop or (), reason)


def ask_length(tokens: int) -> str:
    """What a prompt has to hold for its answer to have so many tokens, at most 8192."""
    return f"[[answer tokens: {tokens}]]"


def _image_sizes(request: Generation) -> list[int]:
    images = [*request.images, *(image for message in request.messages for image in message.images)]
    return [len(image.rstrip("=")) * 3 // 4 for image in images]


def _as_json(dice: random.Random, wanted: Any) -> list[str]:
    schema = wanted if isinstance(wanted, dict) else {"properties": {"answer": {"type": "string"}}}
    text = json.dumps(_fill(dice, schema))
    return [text[start : start + 5] for start in range(0, len(text), 5)]


def fill_schema(prompt: str, schema: Any) -> str:
    """JSON that the plain parts of a schema allow, the same for the same prompt."""
    return json.dumps(_fill(random.Random(prompt), schema))


def _fill(dice: random.Random, schema: Any) -> Any:
    """A value that the plain parts of a JSON schema allow."""
    schema = schema if isinstance(schema, dict) else {}
    if schema.get("enum"):
        return dice.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: _fill(dice, inner) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_fill(dice, schema.get("items"))]
    plain = {"integer": dice.randint(1, 9), "number": dice.randint(1, 9) / 2, "boolean": True, "null": None}
    return plain.get(str(kind), " ".join(dice.choice(_WORDS) for _ in range(4)))


def _cut_at_stop(tokens: list[str], stops: Sequence[str], reason: str) -> tuple[list[str], str]:
    text = "".join(tokens)
    cuts = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    if not cuts:
        return tokens, reason
    kept: list[str] = []
    room = min(cuts)
    for token in tokens:
        if room <= 0:
            break
        kept.append(token[:room])
        room -= len(token)
    return kept, "stop"


class RealText:
    """The embedded model's text, asked for whole and paced by the device afterwards."""

    def __init__(self, host: str, port: int) -> None:
        self.move(host, port)

    def move(self, host: str, port: int) -> None:
        """The model's process was started again somewhere else."""
        self._pool = OriginPool(Origin(host, port))
        headers = ((b"Content-Type", b"application/json"),)
        self._head = request_head(self._pool.origin, b"POST", b"/v1/chat/completions", headers)

    async def write(self, model: str, request: Generation) -> tuple[list[str], str]:
        limit = request.sampling.num_predict
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        system = [{"role": "system", "content": request.system}] if request.system else []
        document: dict[str, Any] = {
            "messages": messages or [*system, {"role": "user", "content": request.prompt}],
            "stream": True,
            "max_tokens": min(limit, _MAX_REAL_TOKENS) if limit is not None and limit > 0 else _MAX_REAL_TOKENS,
            "temperature": 0.8 if request.sampling.temperature is None else request.sampling.temperature,
        }
        if request.sampling.stop:
            document["stop"] = list(request.sampling.stop)
        if request.sampling.seed is not None and request.sampling.seed >= 0:
            document["seed"] = request.sampling.seed
        if isinstance(request.format, dict):
            schema = {"name": "answer", "schema": request.format}
            document["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.format:
            document["response_format"] = {"type": "json_object"}
        try:
            answer = await fetch(self._pool, join_request(self._head, msgspec.json.encode(document)), _TIMEOUT_S)
        except FetchError as error:
            raise ProxyError(ErrorKind.BACKEND_FAILED, f"the embedded model did not answer: {error}") from None
        return _read_tokens(bytes(answer.body))

    def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()


def _read_tokens(body: bytes) -> tuple[list[str], str]:
    tokens: list[str] = []
    reason = "stop"
    for payload in event_data(body):
        if payload == b"[DONE]":
            break
        for choice in msgspec.json.decode(payload).get("choices") or ():
            if text := choice["delta"].get("content"):
                tokens.append(text)
            reason = choice.get("finish_reason") or reason
    return tokens, reason


def embed_text(text: str, dimensions: int) -> tuple[float, ...]:
    """A unit vector that depends on the text only."""
    dice = random.Random(f"vector\0{text}")
    values = [dice.gauss(0, 1) for _ in range(dimensions)]
    length = sum(value * value for value in values) ** 0.5
    return tuple(value / length for value in values)
