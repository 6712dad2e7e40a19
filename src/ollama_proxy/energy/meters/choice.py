"""Which of a meter's sources are wanted."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_proxy.domain.metering import MeterOptions, Source


def is_picked(source_id: str, options: MeterOptions) -> bool:
    """Whether an id ends in one of `options.devices` (`package-0`, `0000:03:00.0/card`); all do when it is empty."""
    return not options.devices or source_id.endswith(tuple(f"/{one}" for one in options.devices))


def pick_sources(sources: Iterable[Source], options: MeterOptions) -> tuple[Source, ...]:
    """The sources that are wanted."""
    return tuple(one for one in sources if is_picked(one.id, options))
