"""Which backends an uploaded file went to, so that the model which is made of it is made there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_MOST = 4096
_KEEP_S = 3600.0


class Pins:
    """Backends by digest, for an hour. Times are handed in."""

    def __init__(self) -> None:
        #: The oldest first.
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}

    def add(self, digest: str, backends: Sequence[str], now_s: float) -> None:
        """These backends have it now."""
        digest = normal_digest(digest)
        self._found.pop(digest, None)
        self._found[digest] = (now_s + _KEEP_S, tuple(backends))
        while len(self._found) > _MOST or next(iter(self._found.values()))[0] < now_s:
            del self._found[next(iter(self._found))]

    def find(self, digests: Iterable[str], now_s: float) -> tuple[str, ...]:
        """The backends that got every one of these, or none."""
        common: tuple[str, ...] | None = None
        for digest in digests:
            until_s, backends = self._found.get(normal_digest(digest), (now_s, ()))
            if until_s < now_s:
                backends = ()
            common = backends if common is None else tuple(one for one in common if one in backends)
        return common or ()


def normal_digest(digest: str) -> str:
    """`sha256-…` is another way to write `sha256:…`."""
    return digest.replace("sha256-", "sha256:", 1) if digest.startswith("sha256-") else digest
