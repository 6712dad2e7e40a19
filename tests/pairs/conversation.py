"""One question in every client dialect, and its answer in one form: what the cells of the pair table are made of."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: A PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL_NAME = "get_weather"
TOOL_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL_HELP = "Weather of a city"


@dataclass(frozen=True)
class Ask:
    """A question. `answered_tool` adds a call of the tool and its result to the history."""

    prompt: str = "Say hello."
    stream: bool = False
    max_tokens: int = 12
    stop: str = ""
    tool: bool = False
    answered_tool: bool = False
    image: bool = False
    schema: dict[str, Any] | None = None
    think: bool = False
    temperature: float = 0.0


@dataclass
class Got:
    """An answer, whatever dialect it came in. `pieces` counts the events that carried text."""

    status: int = 200
    error: str = ""
    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    pieces: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def take(self, text: str) -> None:
        """The next piece of text."""
        if text:
            self.text += text
            self.pieces += 1


Client = Callable[[str, str, Ask], Got]


def post(url: str, document: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[Got, bytes]:
    """Status and headers in an answer to fill, and the body."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(document).encode(), sent)
    try:
        with urllib.request.urlopen(request, timeout=110) as answer:
            body: bytes = answer.read()
            return Got(answer.status, headers={name.lower(): value for name, value in answer.headers.items()}), body
    except urllib.error.HTTPError as error:
        return Got(error.code, error.read().decode("utf-8", "replace")), b""


def events(body: bytes) -> Iterator[dict[str, Any]]:
    """The documents of an event stream, its end marker left out."""
    for block in body.decode().split("\n\n"):
        data = "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: "))
        if data and data != "[DONE]":
            yield json.loads(data)


def _used(ask: Ask) -> dict[str, Any]:
    return {key: value for key, value in {"temperature": ask.temperature, "seed": 1}.items() if value is not None}


# -- Ollama -------------------------------------------------------------------


def ask_ollama(url: str, model: str, ask: Ask) -> Got:
    """`/api/chat`."""
    message: dict[str, Any] = {"role": "user", "content": ask.prompt}
    if ask.image:
        message["images"] = [PIXEL]
    messages = [message]
    if ask.answered_tool:
        call = {"id": "call_1", "function": {"name": TOOL_NAME, "arguments": {"city": "Oslo"}}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "content": "sunny", "tool_name": TOOL_NAME, "tool_call_id": "call_1"})
    options = {"num_predict": ask.max_tokens, **_used(ask), **({"stop": [ask.stop]} if ask.stop else {})}
    document: dict[str, Any] = {"model": model, "messages": messages, "stream": ask.stream, "options": options}
    if ask.tool or ask.answered_tool:
        document["tools"] = [_openai_tool()]
    if ask.schema is not None:
        document["format"] = ask.schema
    if ask.think:
        document["think"] = True
    got, body = post(url + "/api/chat", document)
    for line in body.splitlines():
        chunk = json.loads(line)
        got.error += chunk.get("error", "")
        said = chunk.get("message", {})
        got.take(said.get("content", ""))
        got.thinking += said.get("thinking", "")
        got.calls += [(one["function"]["name"], one["function"]["arguments"]) for one in said.get("tool_calls", ())]
        if chunk.get("done"):
            got.reason = chunk["done_reason"]
            got.prompt_tokens, got.output_tokens = chunk.get("prompt_eval_count", 0), chunk.get("eval_count", 0)
    return got


# -- OpenAI -------------------------------------------------------------------


def _openai_tool() -> dict[str, Any]:
    function = {"name": TOOL_NAME, "description": TOOL_HELP, "parameters": TOOL_PARAMETERS}
    return {"type": "function", "function": function}


def ask_openai(url: str, model: str, ask: Ask) -> Got:
    """`/v1/chat/completions`."""
    content: Any = ask.prompt
    if ask.image:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content = [{"type": "text", "text": ask.prompt}, image]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if ask.answered_tool:
        call = {"id": "call_1", "type": "function", "function": {"name": TOOL_NAME, "arguments": '{"city": "Oslo"}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "content": "sunny", "tool_call_id": "call_1"})
    document: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": ask.max_tokens, **_used(ask)}
    if ask.stop:
        document["stop"] = [ask.stop]
    if ask.tool or ask.answered_tool:
        document["tools"] = [_openai_tool()]
    if ask.schema is not None:
        schema = {"name": "answer", "schema": ask.schema, "strict": True}
        document["response_format"] = {"type": "json_schema", "json_schema": schema}
    if ask.think:
        # llama.cpp listens to the second only; unknown members pass.
        document |= {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": True}}
    if ask.stream:
        document |= {"stream": True, "stream_options": {"include_usage": True}}
    got, body = post(url + "/v1/chat/completions", document)
    if not body:
        return got
    if ask.stream:
        _read_openai_stream(body, got)
        return got
    answer = json.loads(body)
    choice = answer["choices"][0]
    said = choice["message"]
    got.take(said.get("content") or "")
    got.thinking = said.get("reasoning") or said.get("reasoning_content") or ""
    got.calls = [
        (one["function"]["name"], json.loads(one["function"]["arguments"])) for one in said.get("tool_calls") or ()
    ]
    got.reason = choice["finish_reason"]
    _take_openai_usage(answer["usage"], got)
    return got


def _read_openai_stream(body: bytes, got: Got) -> None:
    assert body.endswith(b"data: [DONE]\n\n"), body[-300:]
    arguments: dict[int, list[str]] = {}
    for chunk in events(body):
        if chunk.get("usage"):
            _take_openai_usage(chunk["usage"], got)
        for choice in chunk["choices"]:
            delta = choice["delta"]
            got.take(delta.get("content") or "")
            got.thinking += delta.get("reasoning") or delta.get("reasoning_content") or ""
            for one in delta.get("tool_calls") or ():
                found = arguments.setdefault(one["index"], ["", ""])
                found[0] += one["function"].get("name") or ""
                found[1] += one["function"].get("arguments") or ""
            got.reason = choice["finish_reason"] or got.reason
    got.calls = [(name, json.loads(text)) for name, text in arguments.values()]


def _take_openai_usage(usage: dict[str, int], got: Got) -> None:
    got.prompt_tokens, got.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]


# -- OpenAI's Responses ---------------------------------------------------------


def ask_responses(url: str, model: str, ask: Ask) -> Got:
    """`/v1/responses`."""
    content: list[dict[str, Any]] = [{"type": "input_text", "text": ask.prompt}]
    if ask.image:
        content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"})
    items: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": content}]
    if ask.answered_tool:
        call = {"type": "function_call", "call_id": "call_1", "name": TOOL_NAME, "arguments": '{"city": "Oslo"}'}
        items += [call, {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]
    document: dict[str, Any] = {"model": model, "input": items, "max_output_tokens": ask.max_tokens, "temperature": 0}
    if ask.tool or ask.answered_tool:
        tool = {"type": "function", "name": TOOL_NAME, "description": TOOL_HELP, "parameters": TOOL_PARAMETERS}
        document["tools"] = [tool]
    if ask.schema is not None:
        document["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema}}
    if ask.think:
        document["reasoning"] = {"effort": "high"}
    if ask.stream:
        document["stream"] = True
    got, body = post(url + "/v1/responses", document)
    if not body:
        return got
    if not ask.stream:
        _read_response(json.loads(body), got)
        return got
    ends = []
    for event in events(body):
        if event["type"] == "response.output_text.delta":
            got.pieces += 1
        elif event["type"] in ("response.completed", "response.incomplete", "response.failed"):
            ends.append(event["response"])
    assert len(ends) == 1, body[-500:]
    pieces = got.pieces
    _read_response(ends[0], got)
    got.pieces = pieces
    return got


def _read_response(answer: dict[str, Any], got: Got) -> None:
    for item in answer["output"] or ():
        if item["type"] == "message":
            got.take("".join(part["text"] for part in item["content"]))
        elif item["type"] == "reasoning":
            got.thinking += "".join(part["text"] for part in item.get("summary") or item.get("content") or ())
        elif item["type"] == "function_call":
            got.calls.append((item["name"], json.loads(item["arguments"])))
    reason = (answer.get("incomplete_details") or {}).get("reason", "")
    got.reason = "length" if reason == "max_output_tokens" else answer["status"]
    usage = answer["usage"]
    got.prompt_tokens, got.output_tokens = usage["input_tokens"], usage["output_tokens"]


# -- Anthropic ------------------------------------------------------------------


def ask_anthropic(url: str, model: str, ask: Ask) -> Got:
    """`/v1/messages`."""
    content: list[dict[str, Any]] = [{"type": "text", "text": ask.prompt}]
    if ask.image:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content.append({"type": "image", "source": source})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if ask.answered_tool:
        use = {"type": "tool_use", "id": "call_1", "name": TOOL_NAME, "input": {"city": "Oslo"}}
        messages.append({"role": "assistant", "content": [use]})
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
        messages.append({"role": "user", "content": [result]})
    document: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": ask.max_tokens, "temperature": 0}
    if ask.stop:
        document["stop_sequences"] = [ask.stop]
    if ask.tool or ask.answered_tool:
        document["tools"] = [{"name": TOOL_NAME, "description": TOOL_HELP, "input_schema": TOOL_PARAMETERS}]
    if ask.schema is not None:
        document["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
    if ask.think:
        document["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        document.pop("temperature")
    if ask.stream:
        document["stream"] = True
    got, body = post(url + "/v1/messages", document, {"x-api-key": "none", "anthropic-version": "2023-06-01"})
    if not body:
        return got
    if ask.stream:
        _read_anthropic_stream(body, got)
        return got
    _read_anthropic(json.loads(body), got)
    return got


def _read_anthropic(answer: dict[str, Any], got: Got) -> None:
    for block in answer["content"] or ():
        if block["type"] == "text":
            got.take(block["text"])
        elif block["type"] == "thinking":
            got.thinking += block["thinking"]
        elif block["type"] == "tool_use":
            got.calls.append((block["name"], block["input"]))
    got.reason = answer["stop_reason"]
    got.prompt_tokens, got.output_tokens = answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]


def _read_anthropic_stream(body: bytes, got: Got) -> None:
    calls: dict[int, list[str]] = {}
    last = ""
    for event in events(body):
        last = event["type"]
        if last == "message_start":
            got.prompt_tokens = event["message"]["usage"]["input_tokens"]
        elif last == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls[event["index"]] = [event["content_block"]["name"], ""]
        elif last == "content_block_delta":
            delta = event["delta"]
            got.take(delta.get("text", ""))
            got.thinking += delta.get("thinking", "")
            if delta["type"] == "input_json_delta":
                calls[event["index"]][1] += delta["partial_json"]
        elif last == "message_delta":
            got.reason = event["delta"]["stop_reason"]
            got.output_tokens = event["usage"]["output_tokens"]
    assert last == "message_stop", body[-300:]
    got.calls = [(name, json.loads(text or "{}")) for name, text in calls.values()]


# -- compute.v1 -------------------------------------------------------------------


def ask_compute(url: str, model: str, ask: Ask) -> Got:
    """`/compute/v1/generate`: the contract's messages, which know text only."""
    options: dict[str, Any] = {"maxTokens": ask.max_tokens, "topK": 1, **({"stop": [ask.stop]} if ask.stop else {})}
    document = {"prompt": ask.prompt, "model": model, "options": options}
    path = "/compute/v1/generate/stream" if ask.stream else "/compute/v1/generate"
    got, body = post(url + path, document)
    lines = [json.loads(line) for line in body.splitlines()] if ask.stream else [json.loads(body)] if body else []
    for line in lines:
        got.take(line.get("token", "") + line.get("response", ""))
        if "stats" in line:
            got.output_tokens = line["stats"]["tokensGenerated"]
            got.reason = "done"
    return got
