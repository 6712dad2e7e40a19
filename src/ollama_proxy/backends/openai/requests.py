"""Typed calls as OpenAI requests."""

from __future__ import annotations

from typing import Any

from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Message, Operation, Sampling

_PATHS = {Operation.CHAT: b"/chat/completions", Operation.GENERATE: b"/chat/completions"}


def encode_request(call: Call, model: str, *, stream: bool) -> tuple[bytes, dict[str, Any]]:
    """Path and document for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/embeddings", _without_none(model=model, input=list(typed.inputs), dimensions=typed.dimensions)
    common = {"model": model, **_encode_sampling(typed.sampling, call.dialect), **_encode_rest(typed)}
    if stream:
        common |= {"stream": True, "stream_options": {"include_usage": True}}
    if typed.raw or call.operation is Operation.COMPLETE:
        return b"/completions", {**common, "prompt": typed.prompt}
    return _PATHS[call.operation], {**common, **_encode_chat(typed)}


def _encode_chat(typed: Generation) -> dict[str, Any]:
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    return _without_none(
        messages=[_encode_message(message) for message in messages],
        tools=list(typed.tools) or None,
        tool_choice=typed.tool_choice,
    )


def _encode_message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": image_url(image)}} for image in message.images]
        content = [{"type": "text", "text": message.content}, *parts] if message.content else parts
    uses = [
        {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments or "{}"}}
        for use in message.tool_uses
    ]
    return _without_none(
        role=message.role, content=content, tool_calls=uses or None, tool_call_id=message.tool_call_id or None
    )


def image_url(image: str) -> str:
    """A data URI for a base64 image; the media type is told from the first bytes."""
    for start, media in (("iVBORw0KGgo", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp")):
        if image.startswith(start):
            return f"data:image/{media};base64,{image}"
    return f"data:image/jpeg;base64,{image}"


def _encode_sampling(sampling: Sampling, dialect: Dialect) -> dict[str, Any]:
    # Ollama's clients expect Ollama's defaults, which differ from OpenAI's; those every server knows are sent in full.
    native = dialect is not Dialect.OPENAI
    temperature = 0.8 if native and sampling.temperature is None else sampling.temperature
    top_p = 0.9 if native and sampling.top_p is None else sampling.top_p
    limit = sampling.num_predict
    return _without_none(
        max_tokens=limit if limit is not None and limit > 0 else None,
        temperature=temperature,
        top_p=top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed if sampling.seed is None or sampling.seed >= 0 else None,
        stop=list(sampling.stop) if sampling.stop else None,
        repeat_penalty=sampling.repeat_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
    )


def _encode_rest(typed: Generation) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if typed.format == "json":
        rest["response_format"] = {"type": "json_object"}
    elif isinstance(typed.format, dict):
        schema = {"name": "answer", "schema": typed.format}
        rest["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(typed.think, str):
        rest["reasoning_effort"] = typed.think
    elif typed.think is not None:
        rest["chat_template_kwargs"] = {"enable_thinking": typed.think}
    if typed.logprobs:
        rest["logprobs"] = True
        if typed.top_logprobs:
            rest["top_logprobs"] = typed.top_logprobs
    return rest


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
