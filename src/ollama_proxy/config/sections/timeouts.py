"""How long backends may say nothing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ollama_proxy.config.sections.section import Seconds, Section

_OrAsForAll = Annotated[float, Meta(ge=0, le=1e9, description="0 = as for all models")]


class ModelTimeouts(Section, frozen=True):
    """For models whose names match; 0 is as for all."""

    first_byte_seconds: _OrAsForAll = 0
    loading_seconds: _OrAsForAll = 0
    whole_answer_seconds: _OrAsForAll = 0
    between_seconds: _OrAsForAll = 0


class Timeouts(Section, frozen=True):
    """Ceilings: a silence that is strange by what was learned of a backend is acted on long before."""

    first_byte_seconds: Annotated[Seconds, Meta(description="until a stream begins, of a model that is loaded")] = 120
    loading_seconds: Annotated[Seconds, Meta(description="the same where the model may have to be loaded")] = 300
    whole_answer_seconds: Annotated[Seconds, Meta(description="until an answer that is not streamed is there")] = 600
    between_seconds: Annotated[Seconds, Meta(description="between two pieces of a stream")] = 120
    models: Annotated[
        dict[str, ModelTimeouts],
        Meta(description="pattern of model names: other limits for these; the first pattern that matches counts"),
    ] = {}
