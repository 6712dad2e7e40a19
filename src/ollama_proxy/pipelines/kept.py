"""Texts that cache stages keep: by client, pipeline, stage and key, for a while, not more than so many bytes."""

from __future__ import annotations

from collections import OrderedDict

#: Client, pipeline, stage that wrote it, key.
Key = tuple[str, str, str, str]
_MOST_BYTES = 16 * 1024 * 1024
_AROUND = 200


class KeptTexts:
    """The longest unused goes first. The clock is handed in, in monotonic seconds."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[Key, tuple[float, str]] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key, now_s: float) -> str | None:
        """The text, if it is there and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def keep(self, key: Key, text: str, until_s: float) -> None:
        """From now on this is the text."""
        self._drop(key)
        size = _measure(key, text)
        if size > self._most_bytes:
            return
        self._entries[key] = until_s, text
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _measure(key, entry[1])


def _measure(key: Key, text: str) -> int:
    return _AROUND + 4 * (len(text) + sum(map(len, key)))
