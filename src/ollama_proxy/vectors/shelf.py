"""The bytes of files, one file each in a folder that only its owner may read."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.vectors.catalogue.database import disk_error


class Shelf:
    """Keeps bytes under ids that this program has made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, ident: str, content: bytes) -> None:
        """Keep some bytes: all of them on the disk, or none. Raises `ProxyError`."""
        await asyncio.to_thread(self._put, ident, content)

    def _put(self, ident: str, content: bytes) -> None:
        path = self._folder / ident
        half = path.with_suffix(".half")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            half.rename(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                half.unlink()
            raise disk_error(error) from None

    async def get(self, ident: str) -> bytes:
        """The bytes. Raises `ProxyError(NOT_FOUND)`."""
        try:
            return await asyncio.to_thread((self._folder / ident).read_bytes)
        except OSError:
            raise ProxyError(ErrorKind.NOT_FOUND, f"the bytes of {ident} are gone from the disk") from None

    async def delete(self, ident: str) -> None:
        """Let go of them."""
        await asyncio.to_thread((self._folder / ident).unlink, missing_ok=True)
