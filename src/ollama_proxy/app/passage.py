"""A backend that is looked through: it gets what nobody else can take, as it came, and its answers pass as they come.

It is neither probed nor listed nor decided about, so it may be any server that speaks one of the model APIs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.net.bodies.model_spelling import find_sole_model
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.credentials import CREDENTIALS
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.lanes.upstream import join_request, request_head

#: RFC 9110, 7.6.1; what is framing, or belongs to one connection only.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"expect",
    )
)
#: Below these live the APIs of model servers; everything else that has a handler is this program's own.
_MODEL_ROOTS = (b"/api/", b"/v1/")
_OURS = b"/v1/stream/ws"


class _Named(msgspec.Struct):
    model: str = ""
    name: str = ""
    source: str = ""


_named = msgspec.json.Decoder(_Named)


class Passage:
    """The way to the one transparent backend."""

    def __init__(
        self,
        backend: str,
        pool: OriginPool,
        prefix: str,
        fleet: Callable[[], FleetView],
        pages: frozenset[bytes],
        refuse: Callable[[Exchange, int, str], None],
    ) -> None:
        """`pages` are the paths of this program's own pages; `refuse` answers when the backend does not."""
        self._used = [(b"X-Backend-Used", backend.encode())]
        self._backend = backend
        self._pool = pool
        self._prefix = prefix.encode("ascii")
        self._fleet = fleet
        self._pages = pages
        self._refuse = refuse

    @property
    def takes_all(self) -> bool:
        """Whether no other backend is there."""
        return not self._fleet().backends

    def takes(self, exchange: Exchange, *, known: bool) -> bool:
        """Whether a request is for the transparent backend; `known` when a handler claims its path."""
        path = exchange.path
        if not known:
            return path not in self._pages
        if not (path.startswith(_MODEL_ROOTS) or path == b"/") or path == _OURS:
            return False
        others = self._fleet().backends
        if not others:
            return True
        model = _read_model(exchange.body)
        return bool(model) and not any(
            model in backend.models if backend.models is not None else backend.health.serves for backend in others
        )

    def send(self, exchange: Exchange) -> None:
        """Pass the request on and its answer back, or refuse it to a key that is not for what it is about."""
        obstacle = self._find_obstacle(exchange)
        if obstacle:
            self._refuse(exchange, 403, obstacle)
            return
        kept = _kept(exchange.headers)
        if exchange.caller is not ANYBODY:
            # The key is one of this program's, and nobody else's business.
            kept = [one for one in kept if one[0] not in CREDENTIALS]
        head = request_head(self._pool.origin, exchange.method, self._prefix + exchange.target, kept)
        answer = _Answer(exchange, self._used, self._refuse_for)
        upload = self._pool.send(join_request(head, exchange.body), answer)
        exchange.on_disconnect = upload.abort
        exchange.on_pause = upload.pause
        exchange.on_resume = upload.resume

    def _find_obstacle(self, exchange: Exchange) -> str:
        """Why the key of a request may not have it passed on; "" if it may. What this backend makes of a body that can
        be read in two ways, or of a path, nobody knows."""
        caller = exchange.caller
        if caller.backends is not None and self._backend not in caller.backends:
            return f"the key {caller.name} is for other backends, and none of them has that"
        model = find_sole_model(exchange.body) if caller.models else ""
        if caller.models and not (model and caller.may_use(model)):
            models = ", ".join(caller.models)
            return f"the key {caller.name} may use {models} alone; here a request has to name one, once, as its model"
        return ""

    def _refuse_for(self, exchange: Exchange, failure: Failure) -> None:
        status = 504 if failure.kind is FailureKind.TIMEOUT else 502
        self._refuse(exchange, status, f"{self._backend}: {failure.message}")

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()


class _Answer:
    """One answer on its way back."""

    def __init__(
        self, exchange: Exchange, extra: Sequence[Header], refuse: Callable[[Exchange, Failure], None]
    ) -> None:
        self._exchange = exchange
        self._extra = extra
        self._refuse = refuse

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        index = dict(headers)
        length = index.get(b"content-length", b"")
        kept = [header for header in _kept(headers) if header[0] not in (b"content-type", b"date")]
        self._exchange.start(
            status, index.get(b"content-type", b""), int(length) if length.isdigit() else None, [*kept, *self._extra]
        )

    def on_body(self, data: bytes) -> None:
        self._exchange.write(data)

    def on_complete(self) -> None:
        self._exchange.end()

    def on_error(self, failure: Failure) -> None:
        if self._exchange.started:
            self._exchange.abort()
        else:
            self._refuse(self._exchange, failure)


def _kept(headers: Sequence[Header]) -> list[Header]:
    """What is not about this one connection."""
    lines = [value for name, value in headers if name == b"connection"]
    named = {word.strip().lower() for word in b",".join(lines).split(b",")}
    return [one for one in headers if one[0] not in _HOP_BY_HOP and one[0] not in named and one[0] != b"host"]


def _read_model(body: bytes) -> str:
    """The canonical name of the model that a body is about; "" when it names none."""
    try:
        found = _named.decode(body)
    except UNREADABLE:
        return ""
    return canonical_model(found.model or found.name or found.source)
