"""Clients that take their answers too slowly."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ollama_proxy.config.sections.section import Section


class SlowReaders(Section, frozen=True):
    """A client that an answer waits for must take so much of it in every window, or loses its connection."""

    min_bytes_per_second: Annotated[
        float, Meta(ge=0, le=1e9, description="of an answer that waits for its client; 0 = any byte a window will do")
    ] = 240
    window_seconds: Annotated[
        float, Meta(ge=1, le=86400, description="over which that is measured; whoever takes less is cut off")
    ] = 30
