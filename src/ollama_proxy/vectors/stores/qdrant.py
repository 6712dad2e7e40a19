"""Vectors in a server of Qdrant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ollama_proxy.vectors.index import IndexProblem, Near, Point

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

_GROUP = "group"
_TIMEOUT_S = 30
#: How wide the search in the graph is: the more, the surer and the slower.
_SEARCH_WIDTH = 200
_NOT_FOUND = 404


class Server(Protocol):
    """Where the server is."""

    @property
    def url(self) -> str: ...


class QdrantIndex:
    """The index of a server."""

    def __init__(self, server: Server, api_key: str) -> None:
        self._where = server.url
        self._api_key = api_key
        self._client: AsyncQdrantClient | None = None
        self._dimensions: dict[str, int] = {}

    def make_client(self) -> AsyncQdrantClient:
        """What asks the server."""
        return _package().AsyncQdrantClient(  # type: ignore[no-any-return]
            url=self._where, api_key=self._api_key or None, timeout=_TIMEOUT_S, check_compatibility=False
        )

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        models = _package().models
        async with self._asking() as client:
            held = await self._find(client, collection)
            if held is None:
                held = await self._make(client, collection, dimensions)
            for point in points:
                if len(point.vector) != held:
                    told = f"{collection} holds vectors of {held} numbers, and was given one of {len(point.vector)}"
                    raise IndexProblem(told)
            sent = [
                models.PointStruct(id=point.id, vector=list(point.vector), payload={_GROUP: point.group})
                for point in points
            ]
            await client.upsert(collection, sent, wait=True)

    async def search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> Sequence[Near]:
        models = _package().models
        async with self._asking() as client:
            held = await self._find(client, collection)
            if held is None:
                return []
            if held != len(vector):
                raise IndexProblem(f"{collection} holds vectors of {held} numbers, and was asked with {len(vector)}")
            found = await client.query_points(
                collection,
                query=list(vector),
                limit=most,
                query_filter=_limit(models, only, without),
                search_params=models.SearchParams(hnsw_ef=max(_SEARCH_WIDTH, most)),
                with_payload=False,
            )
            near = [Near(int(point.id), float(point.score)) for point in found.points]
            return sorted(near, key=lambda one: (-one.cosine, one.id))

    async def delete(self, collection: str, groups: Collection[int]) -> None:
        models = _package().models
        async with self._asking() as client:
            if await self._find(client, collection) is not None:
                chosen = models.FilterSelector(filter=_limit(models, groups, ()))
                await client.delete(collection, points_selector=chosen, wait=True)

    async def count(self, collection: str) -> int:
        async with self._asking() as client:
            if await self._find(client, collection) is None:
                return 0
            return int((await client.count(collection, exact=True)).count)

    async def drop(self, collection: str) -> None:
        async with self._asking() as client:
            if await client.collection_exists(collection):
                await client.delete_collection(collection)
        self._dimensions.pop(collection, None)

    async def check(self) -> str:
        async with self._asking() as client:
            return f"Qdrant {(await client.info()).version}"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AsyncQdrantClient]:
        """The client. Faults of the server become `IndexProblem`."""
        exceptions = _package().http.exceptions
        if self._client is None:
            self._client = self.make_client()
        try:
            yield self._client
        except exceptions.ApiException as error:
            # Somebody else may have changed what there is.
            self._dimensions.clear()
            raise IndexProblem(f"Qdrant at {self._where}: {_describe(error)}") from None

    async def _find(self, client: AsyncQdrantClient, collection: str) -> int | None:
        """How long the vectors of a collection are; None where it is not there."""
        if collection not in self._dimensions:
            if not await client.collection_exists(collection):
                return None
            params: Any = (await client.get_collection(collection)).config.params.vectors
            self._dimensions[collection] = params.size
        return self._dimensions[collection]

    async def _make(self, client: AsyncQdrantClient, collection: str, dimensions: int) -> int:
        models = _package().models
        vectors = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
        await client.create_collection(collection, vectors_config=vectors)
        await client.create_payload_index(collection, _GROUP, models.PayloadSchemaType.INTEGER)
        self._dimensions[collection] = dimensions
        return dimensions


def _package() -> Any:
    try:
        import qdrant_client  # noqa: PLC0415  # an extra
    except ImportError:
        raise IndexProblem("Qdrant needs qdrant-client here: install ollama-compute-proxy[qdrant]") from None
    return qdrant_client


def _limit(models: Any, only: Collection[int] | None, without: Collection[int]) -> Any:
    def among(groups: Collection[int]) -> Any:
        return models.FieldCondition(key=_GROUP, match=models.MatchAny(any=list(groups)))

    must = None if only is None else [among(only)]
    return models.Filter(must=must, must_not=[among(without)] if without else None)


def _describe(error: Exception) -> str:
    """The server's own words, or what kept them from us."""
    content = getattr(error, "content", b"")
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else ""
    return (text or str(error) or type(error).__name__)[:300]
