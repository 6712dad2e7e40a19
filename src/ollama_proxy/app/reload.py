"""Taking up a changed configuration while requests run: all of it, or nothing and a sentence why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from ollama_proxy.app.process.notify import READY, notify, reloading
from ollama_proxy.app.process.ports import CannotListen
from ollama_proxy.app.process.watch import Watch
from ollama_proxy.config.difference import find_changes, find_fixed
from ollama_proxy.config.problems import ConfigError
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)


class CannotAdopt(Exception):
    """A configuration that is good by itself, and cannot be served by; the text says why."""


class Adopter(Protocol):
    """Who serves by a configuration."""

    @property
    def config(self) -> Config:
        """The one in force."""

    async def adopt(self, config: Config) -> None:
        """Serve by another from now on. Raises `CannotListen` or `CannotAdopt`, and then nothing has changed."""


class Source(msgspec.Struct, frozen=True):
    """Where a configuration comes from: the file, and what reads it; this may raise `ConfigError`."""

    path: Path
    read: Callable[[], Config]


class Reloader:
    """One reload at a time, in the order in which they were asked for, none before the start is over."""

    def __init__(self, adopter: Adopter, source: Source | None) -> None:
        """Without a source nothing can be reloaded."""
        self._adopter = adopter
        self._source = source
        self._watch = Watch(self._files)
        self._begun = asyncio.Event()
        self._turn = asyncio.Lock()
        self._waits = False
        self._over = False

    def end(self) -> None:
        """Take up nothing any more."""
        self._over = True

    async def run(self) -> None:
        """From now on: the start is over. Watches the files for ever."""
        self._begun.set()
        await self._watch.run(self._changed)

    def _files(self) -> Iterator[Path]:
        """The configuration, and the certificates that it names."""
        if self._source is not None:
            yield self._source.path
        tls = self._adopter.config.server.tls
        if tls.enabled:
            yield from (Path(name) for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name)

    def _changed(self) -> None:
        if self._adopter.config.process.reload_on_change:
            self.request("a file has changed")

    def request(self, why: str) -> None:
        """Reload soon; a request that comes while another waits is the same request."""
        if not self._waits and not self._over:
            self._waits = True
            spawn(self._reload_soon(why), "reload")

    async def _reload_soon(self, why: str) -> None:
        try:
            await self.reload(why)
        except ProxyError:
            """It is in the log already."""

    async def reload(self, why: str) -> tuple[str, ...]:
        """Take up the configuration as it is now: the keys that have changed.

        Raises `ProxyError` with the words of a check for one that cannot be used; then everything is as it was.
        """
        await self._begun.wait()
        async with self._turn:
            self._waits = False
            # Whatever changes from here on is another change.
            self._watch.take()
            notify(*reloading())
            try:
                return await self._reload(why)
            except ProxyError as error:
                _log.error("reload (%s) refused, nothing has changed: %s", why, error.message)
                raise
            finally:
                notify(READY)

    async def _reload(self, why: str) -> tuple[str, ...]:
        if self._over:
            raise ProxyError(ErrorKind.NO_HEALTHY_BACKEND, "this proxy is stopping")
        if self._source is None:
            raise ProxyError(ErrorKind.UNIMPLEMENTED, "this proxy was not started from a file")
        try:
            config = await asyncio.to_thread(self._source.read)
        except ConfigError as error:
            raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None
        changes = find_changes(self._adopter.config, config)
        if fixed := find_fixed(changes):
            raise ProxyError(ErrorKind.INVALID_REQUEST, f"needs a restart: {', '.join(fixed)}")
        try:
            await self._adopter.adopt(config)
        except (CannotListen, CannotAdopt) as error:
            raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None
        _log.info("reload (%s): %s", why, "; ".join(changes) or "no key has changed")
        return tuple(changes)
