"""What is kept of answers that clients refer to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ollama_proxy.config.sections.section import Seconds, Section


class Responses(Section, frozen=True):
    """What `/v1/responses` keeps of its answers, in memory: for `previous_response_id` and for retrieval."""

    store_max_entries: Annotated[int, Meta(ge=0, description="answers kept; 0 keeps none")] = 1000
    store_max_mb: Annotated[float, Meta(gt=0, le=1e6)] = 64
    ttl_seconds: Seconds = 86400
