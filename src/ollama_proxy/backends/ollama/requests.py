"""Typed calls as native Ollama requests."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Embedding, Generation, Operation, Sampling


def encode_request(call: Call, model: str) -> tuple[bytes, dict[str, Any]]:
    """Path and document of the native request for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/api/embed", _without_none(
            model=model,
            input=list(typed.inputs),
            dimensions=typed.dimensions,
            truncate=typed.truncate,
            keep_alive=typed.keep_alive,
            options=dict(typed.options) or None,
        )
    common = _without_none(
        model=model,
        stream=call.stream,
        format=typed.format,
        think=typed.think,
        keep_alive=typed.keep_alive,
        options=encode_options(typed.sampling) or None,
        logprobs=typed.logprobs or None,
        top_logprobs=typed.top_logprobs or None,
    )
    if typed.messages or call.operation is Operation.CHAT:
        return b"/api/chat", {**common, **_encode_chat(typed)}
    return b"/api/generate", {
        **common,
        **_without_none(
            prompt=typed.prompt,
            suffix=typed.suffix or None,
            system=typed.system or None,
            template=typed.template or None,
            raw=typed.raw or None,
            images=list(typed.images) or None,
            context=list(typed.context) or None,
        ),
    }


def _encode_chat(typed: Generation) -> dict[str, Any]:
    messages = []
    for message in typed.messages:
        uses = [
            {"id": use.id, "function": {"name": use.name, "arguments": msgspec.Raw(use.arguments.encode() or b"{}")}}
            for use in message.tool_uses
        ]
        messages.append(
            _without_none(
                role=message.role,
                content=message.content,
                thinking=message.thinking or None,
                images=list(message.images) or None,
                tool_calls=uses or None,
                tool_name=message.tool_name or None,
                tool_call_id=message.tool_call_id or None,
            )
        )
    tools = list(typed.tools) if typed.tool_choice != "none" else []
    return _without_none(messages=messages, tools=tools or None)


def encode_options(sampling: Sampling) -> dict[str, Any]:
    """Ollama's `options`; the names are its own."""
    options = _without_none(
        num_predict=sampling.num_predict,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        stop=list(sampling.stop) if sampling.stop is not None else None,
        repeat_penalty=sampling.repeat_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        num_ctx=sampling.num_ctx,
    )
    return {**options, **sampling.extra}


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
