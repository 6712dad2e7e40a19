"""What an OpenAI-compatible server says of itself: its models, and with llama.cpp what they can take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeError
from ollama_proxy.net.bodies.unreadable import UNREADABLE

LLAMA_CPP, VLLM = "llamacpp", "vllm"
_LATEST_UNIX_S = 253402300799


class _Meta(msgspec.Struct):
    n_ctx: int | None = None
    size: int | None = None


class _Listed(msgspec.Struct):
    id: str
    created: int | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    meta: _Meta | None = None


class _List(msgspec.Struct):
    data: list[_Listed] | None = None


class _Modalities(msgspec.Struct):
    vision: bool = False
    audio: bool = False


class _TemplateAbilities(msgspec.Struct):
    supports_tools: bool = True


class _Properties(msgspec.Struct):
    modalities: _Modalities | None = None
    chat_template_caps: _TemplateAbilities | None = None


_lists = msgspec.json.Decoder(_List)
_properties = msgspec.json.Decoder(_Properties)


def read_models(body: bytes) -> dict[str, ModelFacts]:
    """The list of models by canonical name. Raises `ProbeError`."""
    try:
        listed = _lists.decode(body).data or []
    except UNREADABLE:
        raise ProbeError("the model list is unreadable; is this an OpenAI-compatible server?") from None
    return {canonical_model(one.id): _facts(one) for one in listed}


def _facts(one: _Listed) -> ModelFacts:
    meta = one.meta or _Meta()
    return ModelFacts(
        one.id,
        size_bytes=meta.size or 0,
        modified_at=_moment(one.created),
        context_length=one.max_model_len or meta.n_ctx or 0,
        owner=one.owned_by or "",
    )


def _moment(unix_s: int | None) -> str:
    if not unix_s or not 0 < unix_s <= _LATEST_UNIX_S:
        return ""
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def is_llama_cpp(models: Mapping[str, ModelFacts]) -> bool:
    """Whether the owner that a list names is that server."""
    return any(facts.owner == LLAMA_CPP for facts in models.values())


def thinks_by_template(models: Mapping[str, ModelFacts]) -> bool:
    """Whether thinking is switched in the chat template: so with llama.cpp and vLLM, which call themselves owners."""
    return any(facts.owner in (LLAMA_CPP, VLLM) for facts in models.values())


def can_continue(models: Mapping[str, ModelFacts]) -> bool:
    """Whether the server takes the pair of flags that leaves a last turn open: llama.cpp and vLLM do."""
    return thinks_by_template(models)


def read_abilities(body: bytes, able: frozenset[Need]) -> frozenset[Need]:
    """What of images, sound and tools the model of a llama.cpp server takes; `able` where it does not say."""
    try:
        said = _properties.decode(body)
    except UNREADABLE:
        return able
    modalities, template = said.modalities, said.chat_template_caps
    if modalities is not None:
        able = able | {Need.IMAGES} if modalities.vision else able - {Need.IMAGES}
        able = able | {Need.AUDIO} if modalities.audio else able - {Need.AUDIO}
    if template is not None and not template.supports_tools:
        able -= {Need.TOOLS, Need.TOOL_CHOICE}
    return able
