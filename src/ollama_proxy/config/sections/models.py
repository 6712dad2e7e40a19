"""Which models answer by default or for others, and the one that the proxy brings itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section


class Embedded(Section, frozen=True):
    enabled: Literal["auto", "always", "never"] = "auto"
    model_path: Annotated[str, Meta(description="a GGUF file; empty takes the installed SmolLM2")] = ""
    threads: Annotated[int, Meta(ge=0, le=1024, description="0 = the number of cores, at most 8")] = 0


class Models(Section, frozen=True):
    placement: Annotated[
        Literal["first", "all"] | tuple[str, ...],
        Meta(description="where pull, create and uploads go: the default backend, all of type ollama, or these ids"),
    ] = "first"
    default: Annotated[str, Meta(description="for requests that name no model; empty refuses them")] = ""
    aliases: Annotated[dict[str, str], Meta(description="another name: the model it stands for, on every backend")] = {}
    substitutes: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="model: what may answer for it, in this order, when no backend can; the answer says so"),
    ] = {}
