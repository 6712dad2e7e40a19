"""Answers in a Valkey or Redis server, where several proxies find each other's.

What belongs together is changed by scripts, which the server runs as one step. All keys have one prefix with a hash
tag, so that in a cluster they lie on one node. Whatever goes wrong is a miss: a lookup has a time limit, and a server
that failed is left alone for a while, twice as long each time.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import valkey.asyncio
from valkey.exceptions import ValkeyError

from ollama_proxy.cache.store import Bounds, Found, Holdings, Item, NotPurged, Which
from ollama_proxy.cache.valkey_scripts import COUNT_CHANGES, FIND, KEEP, PURGE
from ollama_proxy.net.task import spawn

T = TypeVar("T")
_log = logging.getLogger(__name__)

#: How long a server that failed is left alone.
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0
#: Lookups and answers to be kept that are under way at once; beyond that nothing is asked.
_MOST_AT_ONCE = 64
#: A purge or a look at all there is may take so long.
_PATIENCE_S = 10.0
#: No script takes so long that others would have to wait.
_KEYS_AT_ONCE = 500
#: Counted up with each change of what lies there.
_VERSION = "2"


class ValkeyStore:
    """One server, by its address (`valkey://`, `valkeys://`, `redis://`, `rediss://` or `unix://`)."""

    def __init__(
        self,
        url: str,
        bounds: Bounds,
        *,
        password: str = "",
        prefix: str = "ollama-proxy",
        timeout_s: float = 0.1,
        unix_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s` is the longest that a request waits for an answer that may be kept there."""
        self._bounds = bounds
        self._prefix = f"{{{prefix}:{_VERSION}}}:"
        self._timeout_s = timeout_s
        self._unix_clock = unix_clock
        self._clock = clock
        connect: Any = valkey.asyncio.from_url  # whose types know only half of what it returns
        self._client = connect(
            url.replace("redis", "valkey", 1) if url.startswith("redis") else url,
            password=password or None,
            socket_connect_timeout=timeout_s,
            max_connections=_MOST_AT_ONCE + 8,
        )
        self._secret: bytes | None = None
        self._busy = 0
        self._evicted = 0
        self._rest_s = 0.0
        self._rests_until_s = 0.0
        self._problem = ""
        self._opening = False
        self._closed = False
        self._keeping: set[asyncio.Task[None]] = set()
        script = self._client.register_script
        self._find_script, self._keep_script, self._purge_script = script(FIND), script(KEEP), script(PURGE)
        self._changes_script = script(COUNT_CHANGES)

    @property
    def secret(self) -> bytes | None:
        if self._secret is None and not self._opening and not self._closed and self._is_awake:
            self._opening = True
            spawn(self.open(), "ask the cache's server for its secret")
        return self._secret

    @property
    def _is_awake(self) -> bool:
        return self._clock() >= self._rests_until_s

    async def open(self) -> None:
        """Agree with all others that use the server on the secret; while it is down, this is tried again."""
        self._opening = True
        try:
            self._secret = await self._ask(self._agree(), None)
        finally:
            self._opening = False

    async def _agree(self) -> bytes | None:
        name = self._prefix + "secret"
        await self._client.set(name, secrets.token_bytes(32), nx=True)
        found: bytes | None = await self._client.get(name)
        return found

    def fetch(self, key: bytes) -> Awaitable[Found | None] | None:
        if self._busy >= _MOST_AT_ONCE or not self._is_awake:
            return None
        return self._ask(self._fetch(key), None)

    async def _fetch(self, key: bytes) -> Found | None:
        found = await self._find_script(args=[self._prefix, key.hex()])
        return None if found is None else Found(found[0], found[1] / 1000)

    async def count_changes(self, times: dict[bytes, int]) -> int | None:
        if not self._is_awake:
            return None
        changes: int | None = await self._ask(self._count_changes(times), None)
        return changes

    async def _count_changes(self, times: dict[bytes, int]) -> int:
        found = list(times.items())
        changes, secret = 0, None
        for begin in range(0, max(1, len(found)), _KEYS_AT_ONCE):
            told = [part for key, more in found[begin : begin + _KEYS_AT_ONCE] for part in (key.hex(), more)]
            changes, secret = await self._changes_script(args=[self._prefix, *told])
        if secret != self._secret and self._secret is not None:
            # It was emptied, or came back empty: without one secret, nobody would find what the others keep.
            _log.info("the cache's server has been emptied; what was kept there is gone")
            self._secret = secret
        return changes

    def keep(self, item: Item) -> None:
        if self._bounds.takes(item) and self._secret is not None and self._busy < _MOST_AT_ONCE and self._is_awake:
            task = spawn(self._keep(item), "keep an answer")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _keep(self, item: Item) -> None:
        now_unix_s, ttl_s = self._unix_clock(), self._bounds.ttl_s
        left_ms = round((item.made_unix_s + ttl_s - now_unix_s) * 1000)
        if left_ms <= 0:
            return
        facts = (item.size_bytes, item.worth_j, item.model, item.owner, item.made_unix_s)
        limits = (self._bounds.max_bytes, left_ms, now_unix_s - ttl_s)
        given = [self._prefix, item.key.hex(), item.data, *facts, *limits, item.digest]
        self._evicted += await self._ask(self._keep_script(args=given), 0)

    async def purge(self, which: Which) -> int:
        gone: int | None = await self._ask(self._purge(which), None, _PATIENCE_S)
        if gone is None:
            raise NotPurged(self._problem or "the server did not answer in time")
        return gone

    async def _purge(self, which: Which) -> int:
        meant: list[bytes] = []
        async for key, made in self._client.zscan_iter(self._prefix + "made", count=_KEYS_AT_ONCE):
            model, digest, owner = "", "", ""
            if which.model is not None or which.owner is not None:
                facts = await self._client.hmget(f"{self._prefix}a:{key.decode()}", "model", "digest", "owner")
                model, digest, owner = [(one or b"").decode() for one in facts]
            if which.takes(model, digest, owner, made):
                meant.append(key)
        gone = 0
        for begin in range(0, len(meant), _KEYS_AT_ONCE):
            gone += await self._purge_script(args=[self._prefix, *meant[begin : begin + _KEYS_AT_ONCE]])
        # Even if there was none: what went for want of room may be held by a proxy still.
        await self._client.incr(self._prefix + "changes")
        return gone

    async def measure(self) -> Holdings:
        found = await self._ask(self._measure(), None, _PATIENCE_S)
        return found or Holdings(evicted=self._evicted, problem=self._problem or "it is left alone for a while")

    async def _measure(self) -> Holdings:
        name = self._prefix
        old = await self._client.zrangebyscore(name + "made", "-inf", self._unix_clock() - self._bounds.ttl_s)
        if old:
            await self._purge_script(args=[name, *old])
        entries = await self._client.zcard(name + "made")
        return Holdings(entries, int(await self._client.get(name + "total") or 0), self._evicted)

    def relieve(self) -> None:
        """The answers are not in this process."""

    async def close(self) -> None:
        self._closed, self._secret = True, None
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=self._timeout_s)
        await self._client.aclose()

    # -- when the server fails ------------------------------------------------------

    async def _ask(self, asked: Coroutine[Any, Any, Any] | Awaitable[Any], otherwise: T, limit_s: float = 0.0) -> Any:
        """What the server says; `otherwise` where it does not in time."""
        self._busy += 1
        try:
            async with asyncio.timeout(limit_s or self._timeout_s):
                found = await asked
        except (ValkeyError, OSError, TimeoutError) as error:
            self._rest(str(error) or type(error).__name__)
            return otherwise
        finally:
            self._busy -= 1
        if self._problem:
            _log.info("the cache's server answers again")
        self._problem, self._rest_s = "", 0.0
        return found

    def _rest(self, problem: str) -> None:
        """Leave the server alone for a while. When it is back it may be another one, and have another secret."""
        if not self._problem:
            _log.warning("the cache's server cannot be used, so that nothing is found there: %s", problem)
        self._problem = problem
        if self._is_awake:
            self._rest_s = min(_LONGEST_REST_S, self._rest_s * 2 or _FIRST_REST_S)
            self._rests_until_s = self._clock() + self._rest_s
        self._secret = None
