"""A file on its way in: a form, taken piece by piece and no further than a file may be long."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ollama_proxy.api.vector_stores.errors import invalid
from ollama_proxy.api.vector_stores.requests import read_keep, read_purpose
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.multipart import FormError, read_boundary, read_parts
from ollama_proxy.net.http1.exchange import Exchange

#: What a form has besides its file.
_SLACK_BYTES = 64 * 1024
_MOST_NAME_CHARS = 255


class Upload(msgspec.Struct, frozen=True):
    """A file that came whole. `keep_s` is None for ever."""

    name: str
    content: bytes
    purpose: str
    keep_s: int | None


class FormSink:
    """Gathers a body, and tells `done` when it is whole, or why it is not taken."""

    def __init__(
        self, exchange: Exchange, most_bytes: int, done: Callable[[bytes], None], fail: Callable[[ProxyError], None]
    ) -> None:
        self._exchange = exchange
        self._most = most_bytes + _SLACK_BYTES
        self._most_file = most_bytes
        self._done = done
        self._fail = fail
        self._body = bytearray()
        self._refused = False

    def take(self) -> None:
        """Begin."""
        length = self._exchange.body_bytes
        if length is not None and length > self._most:
            self._refuse()
            return
        self._exchange.take_body(self)

    def on_body(self, data: bytes) -> None:
        if self._refused:
            return
        self._body += data
        if len(self._body) > self._most:
            self._body = bytearray()
            self._refuse()

    def on_body_end(self) -> None:
        if not self._refused:
            body, self._body = bytes(self._body), bytearray()
            self._done(body)

    def _refuse(self) -> None:
        self._refused = True
        told = f"the file is too large: {self._most_file} bytes are allowed (vectors.max_file_mb)"
        self._fail(ProxyError(ErrorKind.TOO_LARGE, told))


def read_upload(exchange: Exchange, body: bytes) -> Upload:
    """The file and what is said of it. Raises `ProxyError`."""
    fields: dict[str, str] = {}
    file: tuple[str, bytes] | None = None
    try:
        for part in read_parts(body, read_boundary(exchange.header(b"content-type", b""))):
            if part.name == "file":
                file = part.file_name, part.value
            elif len(part.value) <= _SLACK_BYTES:
                fields[part.name] = part.value.decode("utf-8", "replace")
    except FormError as error:
        raise invalid(f"the form cannot be read: {error}") from None
    if file is None:
        raise invalid("file is missing from the form")
    keep_s = read_keep(fields.get("expires_after[anchor]", ""), fields.get("expires_after[seconds]", ""))
    return Upload(_clean(file[0]), file[1], read_purpose(fields.get("purpose", "")), keep_s)


def _clean(name: str) -> str:
    """A name without folders and signs that no terminal should print."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in base if char.isprintable())[:_MOST_NAME_CHARS] or "file"
