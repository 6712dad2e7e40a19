"""Exchanging the process without refusing a connection: the one that runs hands its listening sockets to its successor.

A conversation over a socket in the file system, in lines of JSON:

    successor    {"ask": "sockets"}
    predecessor  {"places": [...], "mode": "Quiet"}  and the sockets themselves (SCM_RIGHTS)
    successor    {"ask": "leave"}    once it serves
    predecessor  {}                  it accepts no more, and writes to no file that the successor writes to

From the last line on the successor is the one writer of what was learned. Until then the predecessor is, and if the
successor goes away before, nothing has happened. The ledger and recorded decisions are appended to by both: a row
belongs to one request, and that to one process.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ollama_proxy.app.process.ports import Place, Sockets
from ollama_proxy.config.schema import Config
from ollama_proxy.energy.ledger.file import default_path
from ollama_proxy.net.listening import close_all
from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)

_MOST_BYTES = 65536
_MOST_SOCKETS = 64
_TIMEOUT_S = 10.0
#: `sun_path` has 108 bytes, the last of them zero.
_LONGEST_ADDRESS = 107
_CREDENTIALS = struct.Struct("3i")


class _Question(msgspec.Struct):
    ask: str


class Offer(msgspec.Struct):
    """What goes with the sockets: the place of each, and the efficiency mode that was set."""

    places: list[Place] = []
    #: "" where it is the configured one.
    mode: str = ""


class Predecessor(Protocol):
    """Who may be followed."""

    async def offer(self) -> tuple[Offer, Sockets]:
        """What a successor gets; the sockets stay open here as well."""

    def hand_over(self) -> None:
        """The successor serves: accept no more, write no shared file, and leave."""


class CannotTakeOver(Exception):
    """There is somebody to follow who does not hand over; the text says why."""


def control_path(config: Config, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where a proxy with this configuration is asked; None where nobody could find it."""
    if config.process.control_socket:
        return Path(config.process.control_socket)
    if not config.server.http_port:
        return None
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime) / "ollama-proxy" if runtime.startswith("/") else default_path(environ).parent
    return folder / f"control-{config.server.http_port}.sock"


# -- the predecessor ---------------------------------------------------------------


class ControlSocket:
    """Waits for a successor."""

    def __init__(self, path: Path, owner: Predecessor) -> None:
        self._path = path
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._inode = 0

    def open(self) -> None:
        """Listen, in the place of whoever did before. Where that cannot be, it is said and nobody can follow."""
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            with _short(beside) as address:
                listener.bind(address)
            beside.chmod(0o600)
            listener.listen(8)
            self._inode = beside.stat().st_ino
            beside.replace(self._path)
        except OSError as error:
            listener.close()
            _log.warning("no successor can take over by way of %s: %s", self._path, error.strerror or error)
        else:
            self._task = spawn(self._run(listener), "wait for a successor")

    async def _run(self, listener: socket.socket) -> None:
        with listener:
            await self._serve(listener)

    async def _serve(self, listener: socket.socket) -> None:
        """Talk to whoever asks, one after the other."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            try:
                with connection:
                    await self._talk(connection)
            except (OSError, TimeoutError, msgspec.DecodeError) as error:
                _log.warning("a successor could not be talked to: %s", error)

    async def _talk(self, connection: socket.socket) -> None:
        _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in (0, os.geteuid()):
            _log.warning("user %d is no successor", uid)
            return
        connection.setblocking(False)
        async with asyncio.timeout(_TIMEOUT_S):
            if await self._hear(connection) != "sockets":
                return
        offer, sockets = await self._owner.offer()
        told = [(place, one) for place, several in sockets.items() for one in several]
        offer.places = [place for place, _ in told]
        fds = array.array("i", [one.fileno() for _, one in told])
        connection.sendmsg([msgspec.json.encode(offer) + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        _log.info("a successor has the listening sockets and starts")
        if await self._hear(connection) != "leave":
            _log.warning("the successor did not begin to serve; everything stays as it is")
            return
        self._owner.hand_over()
        connection.send(b"{}\n")

    async def _hear(self, connection: socket.socket) -> str:
        """The next question; "" when there is none any more."""
        data = b""
        while not data.endswith(b"\n") and len(data) < _MOST_BYTES:
            piece = await asyncio.get_running_loop().sock_recv(connection, 4096)
            if not piece:
                return ""
            data += piece
        return msgspec.json.decode(data, type=_Question).ask

    async def close(self, *, followed: bool = False) -> None:
        """Listen no more; the file is removed unless it is somebody else's by now, or about to be."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if followed:
            return
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


# -- the successor -----------------------------------------------------------------


class Heritage:
    """What a predecessor has handed over, and the line to it."""

    def __init__(self, connection: socket.socket, sockets: Sockets, mode: str) -> None:
        self._connection = connection
        self.sockets = sockets
        self.mode = mode

    async def confirm(self) -> None:
        """This process serves: let the predecessor go, and wait until it writes no more."""
        try:
            await asyncio.to_thread(self._confirm)
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the predecessor did not say that it leaves: %s", error)
        finally:
            self._connection.close()

    def _confirm(self) -> None:
        self._connection.sendall(b'{"ask":"leave"}\n')
        if not self._connection.recv(4096):
            raise OSError("it is gone")


def take_over(path: Path) -> Heritage | None:
    """Ask the proxy that listens at `path` for its sockets; None when none does. Blocks for seconds at most.

    Raises `CannotTakeOver`.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT_S)
    try:
        with _short(path) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise CannotTakeOver(f"{path} cannot be asked: {error.strerror or error}") from None
    try:
        connection.sendall(b'{"ask":"sockets"}\n')
        offer, received = _receive(connection)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        connection.close()
        raise CannotTakeOver(f"the proxy at {path} does not hand over: {error}") from None
    sockets: dict[Place, list[socket.socket]] = {}
    for place, one in zip(offer.places, received, strict=False):
        one.setblocking(False)
        sockets.setdefault(place, []).append(one)
    return Heritage(connection, sockets, offer.mode)


def _receive(connection: socket.socket) -> tuple[Offer, list[socket.socket]]:
    room = socket.CMSG_SPACE(_MOST_SOCKETS * array.array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(_MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    received = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            received += [socket.socket(fileno=fd) for fd in fds]
    try:
        if not data:
            raise OSError("it has closed the line")
        return msgspec.json.decode(data, type=Offer), received
    except Exception:
        close_all(received)
        raise


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for a path of any length: a long one goes by way of its open folder."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
