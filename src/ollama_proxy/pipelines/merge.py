"""Annotations of a stage and of whoever runs it, together."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations

#: Of these the stricter holds, whoever asks for it.
_LIMITS = ("max_latency_ms", "max_power_watts")


def merge_annotations(own: Annotations, client: Annotations) -> Annotations:
    """A stage's own annotations under those of the client, which win where they say anything; of limits the stricter
    holds."""
    if client is NO_ANNOTATIONS or client == NO_ANNOTATIONS:
        return own
    if own == NO_ANNOTATIONS:
        return client
    said = {
        name: value
        for name in Annotations.__struct_fields__
        if (value := getattr(client, name)) != getattr(NO_ANNOTATIONS, name)
    }
    for name in _LIMITS:
        limits = [one for one in (getattr(own, name), getattr(client, name)) if one]
        if limits:
            said[name] = min(limits)
    if own.custom or client.custom:
        said["custom"] = {**own.custom, **client.custom}
    return msgspec.structs.replace(own, **said)
