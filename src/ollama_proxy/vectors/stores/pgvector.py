"""Vectors in Postgres, by its extension pgvector: a table a collection, with an HNSW index where it is large."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ollama_proxy.vectors.index import IndexProblem, Near, Point
from ollama_proxy.vectors.stores.pgvector_connections import Connections
from ollama_proxy.vectors.stores.pgvector_indices import LateIndices
from ollama_proxy.vectors.stores.pgvector_rows import write_rows

if TYPE_CHECKING:
    from psycopg import AsyncConnection

#: How wide the search in the graph is: the more, the surer and the slower.
_SEARCH_WIDTH = 200
#: Where only some files may answer, most of what is met on the way is passed over. The server takes no more than this.
_FILTERED_WIDTH = 1000
#: Of those files' points so many are compared one by one, whether there is an index or not.
_COMPARED = 100_000
#: Where there are more, the graph is walked until it has given so many times the points that are wanted: the first that
#: fit are those at the edge of the others, not the nearest.
_FILTERED_MORE = 10
_SET_SEARCH = (
    "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', %s, true), "
    "set_config('hnsw.max_scan_tuples', %s, true)"
)
#: After so long it is given up, and a file is written anew later.
_READ_S, _WRITE_S, _BUILD_S = 30.0, 120.0, 4 * 3600.0
#: Searches with filters look on behind the first candidates from this version on.
_OLDEST = (0, 8)


class Database(Protocol):
    """Where the database is; `user` "" for the server's own rule."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def database(self) -> str: ...
    @property
    def user(self) -> str: ...


class PgvectorIndex:
    """The index of a database. Connections are made as they are needed, and few."""

    def __init__(self, database: Database, password: str) -> None:
        self._where = f"{database.host}:{database.port}/{database.database}"
        parameters: dict[str, Any] = {"host": database.host, "port": database.port, "dbname": database.database}
        if database.user:
            parameters["user"] = database.user
        if password:
            parameters["password"] = password
        self._dimensions: dict[str, int] = {}
        self.connections = Connections(parameters, self._dimensions.clear)
        self.compared_to = _COMPARED
        self.indices = LateIndices(lambda: self.connections.open(_BUILD_S))

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        async with self.connections.lend(_WRITE_S) as connection:
            held = await self._find(connection, collection) or await self._make(connection, collection, dimensions)
            for point in points:
                if len(point.vector) != held:
                    told = f"{collection} holds vectors of {held} numbers, and was given one of {len(point.vector)}"
                    raise IndexProblem(told)
            await connection.execute(
                f'DELETE FROM "{collection}" WHERE id = ANY(%s)', ([point.id for point in points],)
            )
            rows = f'COPY "{collection}" (id, part, vector) FROM STDIN (FORMAT BINARY)'
            async with connection.cursor().copy(rows) as copy:
                await copy.write(write_rows(points))
        self.indices.hear_of(collection)

    async def search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> Sequence[Near]:
        async with self.connections.lend(_READ_S) as connection:
            held = await self._find(connection, collection)
            if held is None:
                return []
            if held != len(vector):
                raise IndexProblem(f"{collection} holds vectors of {held} numbers, and was asked with {len(vector)}")
            near, fetched = "vector <=> %s::vector", most
            if only is not None and await self._are_few(connection, collection, only):
                # An order that no index knows: the nearest in the graph may all be of other files.
                near = f"({near}) + 0"
            elif only is not None:
                fetched = _FILTERED_MORE * most
            await connection.execute(_SET_SEARCH, _settings(fetched, filtered=only is not None))
            condition, values = _limit(only, without)
            # Not prepared: how much a filter leaves is another each time, and so is the best plan.
            rows = await connection.execute(
                f'SELECT id, {near} AS far FROM "{collection}" WHERE {condition} ORDER BY far LIMIT %s',
                (_text(vector), *values, fetched),
                prepare=False,
            )
            found = [Near(place, _cosine(1 - far)) for place, far in await rows.fetchall()]
            return sorted(found, key=lambda near: (-near.cosine, near.id))[:most]

    async def _are_few(self, connection: AsyncConnection[Any], collection: str, groups: Collection[int]) -> bool:
        """Whether so few points are of some groups that all of them can be compared."""
        rows = await connection.execute(
            f'SELECT COUNT(*) <= %s FROM (SELECT FROM "{collection}" WHERE part = ANY(%s) LIMIT %s) AS counted',
            (self.compared_to, list(groups), self.compared_to + 1),
            prepare=False,
        )
        [[few]] = await rows.fetchall()
        return bool(few)

    async def delete(self, collection: str, groups: Collection[int]) -> None:
        async with self.connections.lend(_WRITE_S) as connection:
            if await self._find(connection, collection) is not None:
                await connection.execute(f'DELETE FROM "{collection}" WHERE part = ANY(%s)', (list(groups),))

    async def count(self, collection: str) -> int:
        async with self.connections.lend(_READ_S) as connection:
            if await self._find(connection, collection) is None:
                return 0
            rows = await connection.execute(f'SELECT COUNT(*) FROM "{collection}"')
            [[count]] = await rows.fetchall()
            return int(count)

    async def drop(self, collection: str) -> None:
        async with self.connections.lend(_WRITE_S) as connection:
            await connection.execute(f'DROP TABLE IF EXISTS "{collection}"')
        self._dimensions.pop(collection, None)
        self.indices.forget(collection)

    async def check(self) -> str:
        async with self.connections.lend(_READ_S) as connection:
            rows = await connection.execute(
                "SELECT current_setting('server_version'), "
                "(SELECT default_version FROM pg_available_extensions WHERE name = 'vector'), "
                "current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE')"
            )
            [[server, extension, user, schema, may_create]] = await rows.fetchall()
            if extension is None:
                raise IndexProblem(f"Postgres {server} at {self._where} has no pgvector; install it there")
            if tuple(map(int, re.findall(r"\d+", extension)[:2])) < _OLDEST:
                raise IndexProblem(f"pgvector {extension} at {self._where} is too old: 0.8 or newer is needed")
            if not may_create:
                told = f"{user} may create no table at {self._where}; GRANT CREATE ON SCHEMA {schema} TO {user}"
                raise IndexProblem(told, final=True)
            return f"Postgres {server}, pgvector {extension}"

    async def close(self) -> None:
        await self.indices.close()
        await self.connections.close()

    # -- tables ------------------------------------------------------------------------

    async def _find(self, connection: AsyncConnection[Any], collection: str) -> int | None:
        """How long the vectors of a collection are; None where it is not there."""
        if collection not in self._dimensions:
            rows = await connection.execute(
                "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'vector'",
                (f'"{collection}"',),
            )
            for (dimensions,) in await rows.fetchall():
                self._dimensions[collection] = dimensions
                # Whoever filled it may have been stopped before it was indexed.
                self.indices.look_later(collection)
        return self._dimensions.get(collection)

    async def _make(self, connection: AsyncConnection[Any], collection: str, dimensions: int) -> int:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{collection}" '
            f"(id bigint PRIMARY KEY, part bigint NOT NULL, vector vector({dimensions}) NOT NULL)"
        )
        await connection.execute(f'CREATE INDEX IF NOT EXISTS "{collection}_part" ON "{collection}" (part)')
        return dimensions


def _limit(only: Collection[int] | None, without: Collection[int]) -> tuple[str, list[Any]]:
    text, values = "TRUE", []
    if only is not None:
        text, values = "part = ANY(%s)", [list(only)]
    if without:
        text, values = f"{text} AND NOT part = ANY(%s)", [*values, list(without)]
    return text, values


def _settings(most: int, *, filtered: bool) -> tuple[str, str, str]:
    """For `_SET_SEARCH`. Without looking on, a search that few files may answer would find fewer than there are."""
    if filtered:
        return str(_FILTERED_WIDTH), "relaxed_order", "1000000"
    return str(max(_SEARCH_WIDTH, min(most, _FILTERED_WIDTH))), "strict_order", "20000"


def _text(vector: Sequence[float]) -> str:
    return f"[{','.join(map(repr, map(float, vector)))}]"


def _cosine(value: float) -> float:
    """Vectors of length 0 have none (NaN)."""
    return value if value == value else 0.0  # noqa: PLR0124  # NaN is not itself
