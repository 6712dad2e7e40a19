"""The progress of one piece of work that runs on several servers, told as if it ran on one.

Pure: objects of the servers' streams in, objects for the client out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Line = dict[str, Any]
_SUCCESS = "success"


class _Layer:
    """One digest: how far each server is."""

    __slots__ = ("completed", "status", "told", "total")

    def __init__(self, status: str) -> None:
        self.status = status
        self.total = 0
        self.completed: dict[str, int] = {}
        #: What the client knows; None before the first time.
        self.told: int | None = None


class MergedProgress:
    """Each status once, each layer as far as its slowest server; success when all have said so.

    A server that fails drops out, and the others go on: `ending` then tells who failed, and who did not.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = tuple(servers)
        self._running = set(servers)
        self._failed: dict[str, str] = {}
        self._succeeded: set[str] = set()
        self._layers: dict[str, _Layer] = {}
        self._said: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether no server runs any more."""
        return not self._running

    @property
    def changed(self) -> tuple[str, ...]:
        """The servers that are through with it."""
        return tuple(one for one in self._servers if one in self._succeeded)

    @property
    def all_failed_alike(self) -> bool:
        """Whether every server failed with the same words."""
        return len(self._failed) == len(self._servers) and len(set(self._failed.values())) == 1

    def take(self, server: str, line: Mapping[str, Any]) -> list[Line]:
        """The next object of a server's stream: what the client is to be told of it."""
        if "error" in line:
            return self.fail(server, str(line["error"]))
        status = str(line.get("status", ""))
        digest = line.get("digest")
        if isinstance(digest, str) and digest:
            return self._take_layer(server, digest, status, line)
        if status == _SUCCESS:
            self._succeeded.add(server)
            return []
        if status in self._said:
            return []
        self._said.add(status)
        return [dict(line)]

    def _take_layer(self, server: str, digest: str, status: str, line: Mapping[str, Any]) -> list[Line]:
        layer = self._layers.get(digest)
        if layer is None:
            layer = self._layers[digest] = _Layer(status)
        layer.total = max(layer.total, _count(line, "total"))
        layer.completed[server] = _count(line, "completed")
        return self._tell(digest, layer)

    def _tell(self, digest: str, layer: _Layer) -> list[Line]:
        """The layer's line, if it got on."""
        waited_for = self._running - self._succeeded
        slowest = min((layer.completed.get(one, 0) for one in waited_for), default=layer.total)
        if layer.told is not None and slowest <= layer.told:
            return []
        layer.told = slowest
        line: Line = {"status": layer.status, "digest": digest}
        if layer.total:
            line["total"] = layer.total
        if slowest:
            line["completed"] = slowest
        return [line]

    def end(self, server: str) -> list[Line]:
        """A server's stream has ended."""
        if server not in self._running:
            return []
        if server not in self._succeeded:
            return self.fail(server, "the answer ended before the work did")
        return self._drop(server)

    def fail(self, server: str, text: str) -> list[Line]:
        """A server has failed."""
        if server not in self._running:
            return []
        self._failed[server] = text
        self._succeeded.discard(server)
        return self._drop(server)

    def _drop(self, server: str) -> list[Line]:
        """Nobody waits for this one any more: the next slowest counts."""
        self._running.discard(server)
        if not self._running:
            return []
        return [line for digest, layer in self._layers.items() for line in self._tell(digest, layer)]

    def ending(self) -> Line:
        """The last object, once all are through."""
        if not self._failed:
            return {"status": _SUCCESS}
        if self.all_failed_alike:
            return {"error": next(iter(self._failed.values()))}
        return {"error": describe(self._failed, self.changed)}


def describe(failed: Mapping[str, str], done: Sequence[str]) -> str:
    """Who failed and why, and who did not."""
    text = "; ".join(f"{server}: {why}" for server, why in failed.items())
    return f"{text} (done on {', '.join(done)})" if done else text


def _count(line: Mapping[str, Any], key: str) -> int:
    value = line.get(key, 0)
    return value if isinstance(value, int) and value > 0 else 0
