"""Model names: one canonical form for look-ups, and the shell patterns of the configuration."""

from __future__ import annotations

import fnmatch
from functools import lru_cache

_LONGEST_REMEMBERED = 256
#: What a name means without saying it.
_IMPLIED = ("https://", "http://", "registry.ollama.ai/", "library/")


def canonical_model(name: str) -> str:
    """The form under which a model is looked up: lower case, always with a tag.

    Ollama compares names without regard to case, reads a missing tag as `latest`, and takes its own registry as meant.
    The tag is looked for in the last path part only, because a host in front may carry a port.
    """
    # Clients make names up: only those of a sensible length are remembered.
    return remembered(name) if len(name) <= _LONGEST_REMEMBERED else _canonical(name)


def _canonical(name: str) -> str:
    lowered = name.strip().lower()
    if not lowered:
        return ""
    for part in _IMPLIED:
        lowered = lowered.removeprefix(part)
    last = lowered.rsplit("/", 1)[-1]
    return lowered if ":" in last else lowered + ":latest"


remembered = lru_cache(maxsize=4096)(_canonical)


@lru_cache(maxsize=8192)
def matches_pattern(model: str, pattern: str) -> bool:
    """Whether a canonical model name matches a configured pattern (`*` and `?`), with or without `:latest`."""
    wanted = pattern.strip().lower()
    if fnmatch.fnmatchcase(model, wanted):
        return True
    return model.endswith(":latest") and fnmatch.fnmatchcase(model.removesuffix(":latest"), wanted)
