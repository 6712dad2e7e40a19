"""Vectors: who makes them where nobody says, and how many at once."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section


class Embeddings(Section, frozen=True):
    """How texts become vectors."""

    default_model: Annotated[
        str, Meta(max_length=256, description="for rooms of the proxy that need vectors and were told no model")
    ] = "all-minilm"
    builtin: Annotated[
        Literal["auto", "never"],
        Meta(description="auto: the built-in all-minilm is started when it is asked for and no backend has it"),
    ] = "auto"
    split: Annotated[bool, Meta(description="share batches of texts over the backends that have the model")] = True
    gather_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="while all backends with a model are busy, a single text waits so long for others, to go along "
            "as one request; 0: never",
        ),
    ] = 10
    cache: Annotated[
        Literal["never", "asked", "always"],
        Meta(description="vectors that are kept answer requests that say cache_enabled, or all that do not forbid it"),
    ] = "asked"
    cache_mb: Annotated[float, Meta(ge=0, le=1e6, description="of vectors that are kept, in memory")] = 64
