"""Who may ask from a browser: the rules for `Origin` and `Host`, the same as Ollama's.

A page on another site must not drive a server that listens for this machine only. So a foreign `Origin` is refused, and
on a loopback address so is a foreign `Host`, which is how a page looks whose name was made to lead here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache

from .http1.exchange import Exchange
from .http1.head import AUTHORITY

#: In characters, with a zone; what is longer is not kept for being asked about.
_LONGEST_ADDRESS = 64
_LOCAL_ENDS = (".localhost", ".local", ".internal")
_OWN_ORIGINS = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # compared, not bound
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    *(f"{scheme}://*" for scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")),
)
_METHODS = b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_HEADERS = (
    b"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    b"X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    b"X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    b"X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
#: Further headers that requests may carry, with where: annotations everywhere, the others where their dialect lives.
_MORE_EVERYWHERE = (
    "x-target-backend",
    "x-latency-critical",
    "x-power-efficient",
    "x-max-",
    "x-deadline-ms",
    "x-cache-",
    "x-priority",
    "x-continue",
    "x-media-type",
    "x-custom-",
    "x-request-id",
)
_MORE_OF_ANTHROPIC = ("x-api-key", "anthropic-")
_MORE_OF_COMPUTE = ("x-api-key", "x-grpc-web", "x-user-agent", "grpc-timeout", "connect-")
#: The key of an exchange's notes.
_VERDICT = "origin"


class Verdict:
    """What becomes of requests with a certain head: header `lines` for their answers and, when they are answered at
    once, the `status` of an answer without a body."""

    __slots__ = ("lines", "status")

    def __init__(self, lines: bytes = b"", status: int = 0) -> None:
        self.lines = lines
        self.status = status


_PASSES = Verdict()
_FOREIGN = Verdict(status=403)


class Origins:
    """Judges heads by their `Origin` and `Host`.

    `origins` are allowed besides Ollama's own; one `*` in each stands for anything, `*` alone for all. `hosts` are
    allowed besides local names, `*` for all; they matter when `local_only`, on a port that is bound to the loopback
    address.
    """

    def __init__(self, origins: Iterable[str] = (), hosts: Iterable[str] = (), *, local_only: bool = False) -> None:
        patterns = [*origins, *_OWN_ORIGINS]
        self._all_origins = "*" in patterns
        self._exact = frozenset(pattern.lower() for pattern in patterns if "*" not in pattern)
        self._wild = [pattern.partition("*")[::2] for pattern in patterns if "*" in pattern]
        self._hosts = frozenset(host.lower() for host in hosts)
        self._checks_hosts = local_only and "*" not in self._hosts
        self._own_name = socket.gethostname().lower()

    def judge(self, exchange: Exchange) -> Verdict:
        """The verdict on an exchange's head; it is kept with the head, so equal ones cost a look-up."""
        verdict: Verdict | None = exchange.notes.get(_VERDICT)
        if verdict is None:
            verdict = exchange.notes[_VERDICT] = self._judge(exchange)
        return verdict

    def _judge(self, exchange: Exchange) -> Verdict:
        host = (exchange.header(b"host") or b"").decode("latin-1")
        origin = exchange.header(b"origin") or b""
        asks_only = exchange.method == b"OPTIONS"
        lines = b""
        if origin and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
            if not self._allows(origin.decode("latin-1")):
                return _FOREIGN
            if asks_only:
                return Verdict(self._preflight_lines(origin, exchange), 204)
            lines = self._origin_line(origin) + (b"" if self._all_origins else b"Vary: Origin\r\n")
        status = self._judge_host(host, asks_only=asks_only) if self._checks_hosts else 0
        named: bytes = exchange.notes.get(AUTHORITY, b"")
        if named and self._checks_hosts and self._judge_host(named.decode("latin-1"), asks_only=False):
            return _FOREIGN
        return Verdict(lines, status) if lines or status else _PASSES

    def _allows(self, origin: str) -> bool:
        if self._all_origins or origin in self._exact:
            return True
        return any(origin.startswith(begin) and origin.endswith(end) for begin, end in self._wild)

    def _origin_line(self, origin: bytes) -> bytes:
        return b"Access-Control-Allow-Origin: %b\r\n" % (b"*" if self._all_origins else origin)

    def _preflight_lines(self, origin: bytes, exchange: Exchange) -> bytes:
        asked = (exchange.header(b"access-control-request-headers") or b"").decode("latin-1").lower()
        more = [name for part in asked.split(",") if (name := part.strip()).startswith(_more_headers(exchange.path))]
        headers = b",".join([_HEADERS, *(name.encode("latin-1") for name in more if name.isprintable())])
        vary = b"Vary: Origin\r\nVary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\n"
        return b"".join(
            (
                b"Access-Control-Allow-Headers: %b\r\nAccess-Control-Allow-Methods: %b\r\n" % (headers, _METHODS),
                self._origin_line(origin),
                b"Access-Control-Max-Age: 43200\r\n",
                b"" if self._all_origins else vary,
            )
        )

    def _judge_host(self, host: str, *, asks_only: bool) -> int:
        """The status of an answer that the Host header alone decides, else 0."""
        name = _without_port(host)
        if _is_near_address(name):
            return 0
        name = name.lower()
        if name in ("", "localhost", self._own_name) or name.endswith(_LOCAL_ENDS) or name in self._hosts:
            # As Ollama has it: asked by a local name, but not by an address, it answers what is not a preflight.
            return 204 if asks_only else 0
        return 403


def _more_headers(path: bytes) -> tuple[str, ...]:
    """Beginnings of the names that are allowed when they are asked for."""
    if path.startswith(b"/v1/messages"):
        return _MORE_EVERYWHERE + _MORE_OF_ANTHROPIC
    if path.startswith((b"/api/", b"/v1/")):
        return _MORE_EVERYWHERE
    return _MORE_EVERYWHERE + _MORE_OF_COMPUTE


def _without_port(host: str) -> str:
    """The host of a Host header; what has more than one colon and no brackets is an address without a port."""
    if host.startswith("["):
        inner, closed, rest = host[1:].partition("]")
        return inner if closed and rest.startswith(":") else host
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_near_address(name: str) -> bool:
    """Whether it is an address of this machine or of a private network."""
    address = _read_address(name) if len(name) <= _LONGEST_ADDRESS else None
    if address is None:
        return False
    return address.is_loopback or address.is_unspecified or _is_private(address) or _is_own(address)


@lru_cache(maxsize=256)
def _read_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address by its text; None for what is none. Each connection asks once, and nearly all say the same."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _PRIVATE if network.version == address.version)


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether one of this machine's interfaces has it: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
