"""Which of a meter's sources are wanted."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_proxy.domain.metering import MeterOptions, Source


def pick_sources(sources: Iterable[Source], options: MeterOptions) -> tuple[Source, ...]:
    """Those whose id ends in one of `options.devices` (`package-0`, `0000:03:00.0/card`); all when it is empty."""
    ends = tuple(f"/{one}" for one in options.devices)
    return tuple(one for one in sources if not ends or one.id.endswith(ends))
