"""Vectors that were made before, in this process's memory: by weights, options, client and text."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict

import msgspec

from ollama_proxy.domain.call import Embedding

#: Of an entry besides its numbers.
_AROUND = 200
_KEY_BYTES = 20
_encode = msgspec.json.Encoder(order="deterministic").encode


class VectorStore:
    """The longest unused goes first. Numbers are kept as they came, in 8 bytes each."""

    def __init__(self, most_bytes: float) -> None:
        self.most_bytes = most_bytes
        self._entries: OrderedDict[bytes, array[float]] = OrderedDict()
        self._bytes = 0

    def find(self, key: bytes) -> tuple[float, ...] | None:
        """The vector, if it is there."""
        numbers = self._entries.get(key)
        if numbers is None:
            return None
        self._entries.move_to_end(key)
        return tuple(numbers)

    def keep(self, key: bytes, vector: tuple[float, ...]) -> None:
        """Keep a vector, and let others go for it."""
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._bytes -= _measure(gone)
        numbers = array("d", vector)
        self._entries[key] = numbers
        self._bytes += _measure(numbers)
        while self._bytes > self.most_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _measure(oldest)

    @property
    def size_bytes(self) -> int:
        """What is kept, nearly."""
        return self._bytes


def make_keys(client: str, model: str, digest: str, embedding: Embedding) -> list[bytes]:
    """A key for each text. What one client asked for is no answer to another: it would tell that it was asked."""
    frame = _encode([client, model, digest, embedding.dimensions, embedding.truncate, embedding.options])
    begun = hashlib.blake2b(frame, digest_size=_KEY_BYTES)
    keys = []
    for text in embedding.inputs:
        one = begun.copy()
        one.update(b"\0" + text.encode("utf-8", "surrogatepass"))
        keys.append(one.digest())
    return keys


def _measure(numbers: array[float]) -> int:
    return len(numbers) * numbers.itemsize + _AROUND
