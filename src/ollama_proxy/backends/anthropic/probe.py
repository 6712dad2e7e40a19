"""What a server of this API says of its models."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeError
from ollama_proxy.net.bodies.unreadable import UNREADABLE


class _Listed(msgspec.Struct):
    id: str
    created_at: str | None = None
    max_input_tokens: int | None = None
    owned_by: str | None = None


class _List(msgspec.Struct):
    data: list[_Listed] | None = None


_lists = msgspec.json.Decoder(_List)


def read_models(body: bytes) -> dict[str, ModelFacts]:
    """The list of models by canonical name, in Anthropic's form or in OpenAI's. Raises `ProbeError`."""
    try:
        listed = _lists.decode(body).data or []
    except UNREADABLE:
        raise ProbeError("the model list is unreadable; is this a server of Anthropic's API?") from None
    return {canonical_model(one.id): _facts(one) for one in listed}


def _facts(one: _Listed) -> ModelFacts:
    return ModelFacts(
        one.id,
        modified_at=one.created_at or "",
        context_length=one.max_input_tokens or 0,
        owner=one.owned_by or "anthropic",
    )
