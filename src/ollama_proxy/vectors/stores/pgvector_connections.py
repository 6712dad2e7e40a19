"""Connections to Postgres: few, kept for whoever is next, and bounded in time. A server that hangs says nothing, not
even that it will not answer, so whatever waits for it is ended here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from ollama_proxy.vectors.index import IndexProblem

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_MOST = 4
_CONNECT_S = 5
#: How long anything waits for what holds a table: an index that is made holds one for minutes.
_LOCK_S = 2.0
#: The server is given so much more time than it was told to take, so that its own word comes first.
_GRACE_S = 2.0
#: No right to do so, no pgvector there, more numbers than it takes (SQLSTATE): the same tomorrow.
_FINAL = frozenset(("42501", "58P01", "0A000", "22023", "54000"))
#: A connection without a transaction, as libpq counts.
_IDLE = 0


class Connections:
    """Those of one database; faults of it become `IndexProblem`."""

    def __init__(self, parameters: dict[str, Any], forget: Callable[[], None]) -> None:
        """`parameters` are libpq's; `forget` is called after each fault, since the tables may be others now."""
        # A line that is cut says nothing either.
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        self._parameters = {
            "connect_timeout": _CONNECT_S,
            "application_name": "ollama-proxy",
            **alive,
            **parameters,
        }
        self._where = f"{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
        self._forget = forget
        self._idle: list[AsyncConnection[Any]] = []
        self._free = asyncio.Semaphore(_MOST)
        self.answer_s: float = _CONNECT_S
        self.grace_s = _GRACE_S
        self.lock_s = _LOCK_S

    @asynccontextmanager
    async def lend(self, limit_s: float) -> AsyncIterator[AsyncConnection[Any]]:
        """One of the few, in a transaction that ends with the block, and ends at all after so long."""
        with self._faults():
            try:
                async with asyncio.timeout(limit_s):
                    await self._free.acquire()
            except TimeoutError:
                raise TimeoutError(f"no connection was free for {limit_s:g} s") from None
            try:
                connection = await self._take()
                try:
                    async with self._transaction(connection, limit_s):
                        yield connection
                finally:
                    if connection.pgconn.transaction_status == _IDLE:
                        self._idle.append(connection)
                    else:
                        await connection.close()
            finally:
                self._free.release()

    @asynccontextmanager
    async def open(self, limit_s: float) -> AsyncIterator[AsyncConnection[Any]]:
        """As `lend`, one beside the few: for what takes so long that nobody is to wait for it."""
        with self._faults():
            connection = await self._connect()
            try:
                async with self._transaction(connection, limit_s):
                    yield connection
            finally:
                await connection.close()

    async def close(self) -> None:
        """Those that nobody uses."""
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> AsyncConnection[Any]:
        """One that is alive: a server that was started anew has forgotten those that idled."""
        psycopg = driver()
        while self._idle:
            connection = self._idle.pop()
            try:
                with _watched(connection, self.answer_s):
                    await connection.execute("")
            except (psycopg.Error, TimeoutError):
                await connection.close()
                # The others are as old, and each would be waited for.
                await self.close()
            except BaseException:
                await connection.close()
                raise
            else:
                return connection
        return await self._connect()

    async def _connect(self) -> AsyncConnection[Any]:
        made: AsyncConnection[Any] = await driver().AsyncConnection.connect(**self._parameters, autocommit=True)
        return made

    @asynccontextmanager
    async def _transaction(self, connection: AsyncConnection[Any], limit_s: float) -> AsyncIterator[None]:
        with _watched(connection, limit_s + self.grace_s):
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)",
                    (f"{1000 * limit_s:.0f}ms", f"{1000 * self.lock_s:.0f}ms"),
                )
                yield

    @contextmanager
    def _faults(self) -> Iterator[None]:
        psycopg = driver()
        try:
            yield
        except (psycopg.Error, TimeoutError) as error:
            self._forget()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            told = str(error).strip() or type(error).__name__
            if isinstance(error, psycopg.errors.LockNotAvailable):
                told += " (while the index of a collection is made, nothing is put into it; it is tried again)"
            final = getattr(error, "sqlstate", None) in _FINAL
            raise IndexProblem(f"Postgres at {self._where}: {told}", final=final) from None


@contextmanager
def _watched(connection: AsyncConnection[Any], limit_s: float) -> Iterator[None]:
    """Cut the line after so long, whatever is waited for. Raises `TimeoutError` instead of what comes of that."""
    cut = False

    def act() -> None:
        nonlocal cut
        cut = True
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(limit_s, act)
    try:
        yield
    except driver().Error:
        if cut:
            raise TimeoutError(f"no answer within {limit_s:g} s") from None
        raise
    finally:
        timer.cancel()


def driver() -> Any:
    """The package that speaks to Postgres. Raises `IndexProblem` where it is not installed."""
    try:
        import psycopg  # noqa: PLC0415  # an extra
    except ImportError:
        raise IndexProblem("Postgres needs psycopg here: install ollama-compute-proxy[postgres]") from None
    return psycopg
