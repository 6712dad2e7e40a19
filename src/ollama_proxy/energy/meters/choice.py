"""Which of a meter's sources are wanted, and the one source of a meter that is configured whole."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_proxy.domain.metering import Domain, MeterOptions, Source

#: What no plug or program is believed to show without `max_watts`.
_MAX_RATE_W = 5000.0


def is_picked(source_id: str, options: MeterOptions) -> bool:
    """Whether an id ends in one of `options.devices` (`package-0`, `0000:03:00.0/card`); all do when it is empty."""
    return not options.devices or source_id.endswith(tuple(f"/{one}" for one in options.devices))


def pick_sources(sources: Iterable[Source], options: MeterOptions) -> tuple[Source, ...]:
    """The sources that are wanted."""
    return tuple(one for one in sources if is_picked(one.id, options))


def describe_configured(options: MeterOptions, meter: str, domain: Domain, covers: str) -> Source:
    """The source of a meter that the configuration describes, such as a plug: nothing about it is found out."""
    return Source(
        id=options.id,
        meter=meter,
        domain=domain,
        covers=covers,
        kind="emulated" if options.emulated else "measured",
        backends=options.backends,
        max_rate=options.max_watts or _MAX_RATE_W,
        update_s=options.interval_s,
    )
