"""The HTTP port's front: whether a request may come in, the handler of its path, and what is said when there is none.

Paths are found as Ollama finds them: escapes are read, doubled slashes and dots are redirected away, a slash at the end
too.
"""

from __future__ import annotations

import html
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ollama_proxy.app.access.audit import AuditLog, name_target
from ollama_proxy.app.access.guard import CHANGES, Guard
from ollama_proxy.app.access.keyring import Keyring
from ollama_proxy.config.schema import Auth
from ollama_proxy.domain.caller import Permission
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.asgi import AsgiApp, AsgiBridge
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.status import retry_after
from ollama_proxy.net.http_request import read_request_id
from ollama_proxy.net.http_route import Methods, Route, lay_routes
from ollama_proxy.net.origins import Origins, Verdict

_KINDS = {
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.METHOD_NOT_ALLOWED,
    413: ErrorKind.TOO_LARGE,
    500: ErrorKind.INTERNAL,
}
#: The order in which `Allow` names methods.
_METHODS = (b"HEAD", b"GET", b"POST", b"DELETE")
_READS = (b"GET", b"HEAD")
_MOVED = {301: b"Moved Permanently", 307: b"Temporary Redirect"}


class HttpApi(Protocol):
    """One dialect: where it lives, its paths, and how it says no."""

    #: Every path below it belongs to this dialect.
    root: bytes

    @property
    def routes(self) -> Mapping[bytes, Methods]:
        """Handlers by exact path and method."""

    @property
    def prefixes(self) -> Mapping[bytes, Methods]:
        """Handlers of everything that begins so and goes on."""

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""


class Passage(Protocol):
    """The way around the routes."""

    @property
    def takes_all(self) -> bool:
        """Whether there is no other way for any model's sake."""

    def takes(self, exchange: Exchange, *, known: bool) -> bool:
        """Whether a request goes that way; `known` when there is a route for its path."""

    def send(self, exchange: Exchange) -> None:
        """Let it go there."""


class Front:
    """Routes by exact path, then by prefix, then to the status pages."""

    def __init__(
        self,
        apis: Sequence[HttpApi],
        pages: AsgiApp,
        make_request_id: Callable[[], str],
        origins: Origins,
        guard: Guard | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        """`guard` says who may do what; without one no keys are checked. `audit` keeps who changed what."""
        self._apis = apis
        #: Who may do what.
        self.guard = guard or Guard(Keyring(Auth(), {}))
        self._audit = audit
        self._page_permissions = list_pages(pages)
        self._page_paths = {path for _, path in self._page_permissions}
        self._judge = origins.judge
        self._make_request_id = make_request_id
        self._pages = AsgiBridge(pages, self.refuse)
        #: The way to a backend that takes what nobody else can.
        self.passage: Passage | None = None
        self._routes, prefixes = lay_routes(apis)
        self._prefixes = list(prefixes.items())

    def judge_by(self, origins: Origins) -> None:
        """Let in whom other rules let in, from the next request on."""
        self._judge = origins.judge

    def handle(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        verdict = self._name(exchange)
        methods = self._routes.get(exchange.path)
        passage = self.passage
        if passage is not None and not verdict.status and passage.takes(exchange, known=self._knows(exchange.path)):
            if self._lets_in(exchange, self._passed_permission(exchange)):
                passage.send(exchange)
            return
        if methods is None:
            methods = self._look_closer(exchange)
            if exchange.started:
                return
        if verdict.status:
            self._stop(exchange, verdict.status, methods)
        elif methods is None:
            self._answer_elsewhere(exchange)
        else:
            handler = methods.get(exchange.method)
            if handler is None:
                if self._lets_in(exchange, "key"):
                    self._refuse_method(exchange, methods)
            elif not (self.guard.is_checked or isinstance(handler, Route)) or self._lets_in(
                exchange, handler.permission if isinstance(handler, Route) else "infer"
            ):
                # Where no keys are, nothing is asked of an ordinary request.
                handler(exchange)

    def streams(self, method: bytes, path: bytes) -> bool:
        """Whether a request is handed out at its head, for its route takes the body as it comes."""
        route = self._find_route(method, path)
        return isinstance(route, Route) and route.streams and (self.passage is None or not self.passage.takes_all)

    def _lets_in(self, exchange: Exchange, permission: Permission) -> bool:
        """Whether whoever asks may; it is told if not."""
        error = self.guard.judge(exchange.notes, exchange.headers, exchange.peer, permission)
        if self._audit is not None and permission in CHANGES and exchange.method not in _READS:
            self._watch(exchange, self._audit)
        if error is None:
            return True
        if error.kind is ErrorKind.UNAUTHENTICATED:
            exchange.fixed_lines += b'WWW-Authenticate: Bearer realm="ollama-proxy"\r\n'
        if error.retry_after_s:
            exchange.fixed_lines += b"%b: %b\r\n" % retry_after(error.retry_after_s)
        api = self._find_speaker(exchange)
        if api is not None:
            api.refuse(exchange, error)
        else:
            exchange.respond(error.kind.http_status, b"text/plain; charset=utf-8", error.message.encode() + b"\n")
        return False

    def _watch(self, exchange: Exchange, audit: AuditLog) -> None:
        """Keep who asks for a change, and what came of it."""
        action = f"{exchange.method.decode()} {exchange.path.decode('utf-8', 'replace')}"
        who, where, target = exchange.caller.name, exchange.peer, name_target(exchange)
        exchange.on_status = lambda status: audit.write(who, where, action, target, f"status {status}")

    def permit(self, path: bytes, permission: Permission) -> None:
        """What a page takes from now on."""
        self._page_permissions[b"GET", path] = permission

    def _passed_permission(self, exchange: Exchange) -> Permission:
        """What a request takes that goes past the routes: the backend may do anything at a path that nobody knows."""
        path = exchange.path
        if b"%" in path or _clean(path) != path:
            # Who knows what the backend makes of it.
            return "admin"
        route = self._find_route(exchange.method, path)
        if route is not None:
            return route.permission if isinstance(route, Route) else "infer"
        return "infer" if path.startswith(b"/v1/") else "admin"

    def _find_route(self, method: bytes, path: bytes) -> Callable[[Exchange], None] | None:
        path = unquote_to_bytes(path) if b"%" in path else path
        methods = self._routes.get(path) or self._find_prefix(path)
        return methods.get(method) if methods is not None else None

    def _knows(self, path: bytes) -> bool:
        return path in self._routes or self._find_prefix(path) is not None

    def _name(self, exchange: Exchange) -> Verdict:
        """Give the request its id, the client's own where it sent a good one, and echo it whatever the answer."""
        exchange.request_id = request_id = read_request_id(exchange) or self._make_request_id()
        verdict = self._judge(exchange)
        exchange.fixed_lines = b"%bX-Request-ID: %b\r\n" % (verdict.lines, request_id.encode("ascii"))
        return verdict

    def _look_closer(self, exchange: Exchange) -> Methods | None:
        """The methods of a path that is no route as it stands. Some are redirected here, to where it is meant to go."""
        path = exchange.path
        if path == b"*":
            exchange.respond(200, b"", b"")
            return None
        clean = _clean(path)
        if clean != path:
            _redirect(exchange, clean, 307)
            return None
        if b"%" in path:
            path = exchange.path = unquote_to_bytes(path)
            if path in self._routes:
                return self._routes[path]
        if path.endswith(b"/"):
            methods = self._routes.get(path[:-1]) or self._find_prefix(path[:-1])
            if methods is not None and exchange.method in methods:
                _redirect(exchange, path[:-1], 301 if exchange.method == b"GET" else 307)
                return None
        return self._find_prefix(path)

    def _stop(self, exchange: Exchange, status: int, methods: Methods | None) -> None:
        """Answer a request that may go no further, or need not."""
        unserved = methods is not None and exchange.method not in methods
        exchange.respond(status, b"", b"", [_allow(methods)] if methods is not None and unserved else ())

    def _refuse_method(self, exchange: Exchange, methods: Methods) -> None:
        """In plain text, as Ollama does; at paths that it does not have, in the dialect of those who ask there."""
        api = next((api for api in self._apis if _refuses(api, exchange.path)), None)
        if api is None:
            exchange.respond(405, b"text/plain", b"405 method not allowed", [_allow(methods)])
            return
        exchange.fixed_lines += b"%b: %b\r\n" % _allow(methods)
        method = exchange.method.decode("ascii", "replace")
        api.refuse(exchange, ProxyError(ErrorKind.METHOD_NOT_ALLOWED, f"{method} is not allowed here"))

    def _answer_elsewhere(self, exchange: Exchange) -> None:
        method, path = (b"GET" if exchange.method == b"HEAD" else exchange.method), exchange.path
        if not self._lets_in(exchange, self._page_permissions.get((method, path), "key")):
            return
        # Only what is a page's path to the letter, or would be without a slash behind it, is handed on: whatever else
        # the pages might take it for, it was let in as nothing in particular.
        if path in self._page_paths or (path.endswith(b"/") and path[:-1] in self._page_paths):
            self._pages.handle(exchange)
        else:
            exchange.respond(404, b"text/plain", b"404 page not found")

    def _find_prefix(self, path: bytes) -> Methods | None:
        for prefix, methods in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return methods
        return None

    def _find_api(self, path: bytes) -> HttpApi | None:
        return next((api for api in self._apis if path.startswith(api.root)), None)

    def _find_speaker(self, exchange: Exchange) -> HttpApi | None:
        """Whose dialect a client speaks: by its header where two share a path, else by the path."""
        for api in self._apis:
            mark: bytes = getattr(api, "mark", b"")
            if mark and exchange.path in getattr(api, "marked", ()) and exchange.header(mark) is not None:
                return api
        return self._find_api(exchange.path)

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """A refusal from before any handler, in the dialect of the path and with the status of HTTP."""
        if not exchange.request_id:
            self._name(exchange)
        api = self._find_api(exchange.path)
        kind = _KINDS.get(status)
        if api is not None and kind is not None:
            api.refuse(exchange, ProxyError(kind, message))
        else:
            exchange.respond(status, b"text/plain; charset=utf-8", message.encode() + b"\n")


def list_pages(pages: AsgiApp) -> dict[tuple[bytes, bytes], Permission]:
    """What the pages of an application take, by method and path; one that does not say so is the operator's if it
    changes anything."""
    found: dict[tuple[bytes, bytes], Permission] = {}
    for route in getattr(pages, "routes", ()):
        for method in route.methods - {"HEAD"}:
            default: Permission = "key" if method == "GET" else "admin"
            found[method.encode(), route.path.encode()] = getattr(route, "permission", default)
    return found


def _refuses(api: HttpApi, path: bytes) -> bool:
    """Whether it tells itself which methods a path of its has not."""
    ours = getattr(api, "refuses_methods", False)
    return ours and (path in api.routes or any(path.startswith(one) for one in getattr(api, "prefixes", ())))


def _allow(methods: Methods) -> tuple[bytes, bytes]:
    known = [method for method in _METHODS if method in methods]
    return b"Allow", b", ".join([*known, *(method for method in methods if method not in _METHODS)])


def _clean(path: bytes) -> bytes:
    """A path without doubled slashes and dots; a slash at its end stays."""
    if (b"//" not in path and b"/." not in path) or not path.startswith(b"/"):
        return path
    clean = posixpath.normpath(b"/" + path.lstrip(b"/"))
    return clean + b"/" if path.endswith(b"/") and clean != b"/" else clean


def _redirect(exchange: Exchange, path: bytes, status: int) -> None:
    """Send the client to a path on this server; the query goes along."""
    where = quote_from_bytes(path, safe="/$&+,:;=@~%")
    if exchange.query:
        where += f"?{exchange.query.decode('latin-1')}"
    headers = [(b"Location", where.encode("latin-1"))]
    if exchange.method == b"GET":
        quoted = html.escape(where).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
        link = f'<a href="{quoted}">'.encode("latin-1")
        exchange.respond(status, b"text/html; charset=utf-8", b"%b%b</a>.\n\n" % (link, _MOVED[status]), headers)
    else:
        exchange.respond(status, b"text/html; charset=utf-8" if exchange.method == b"HEAD" else b"", b"", headers)
