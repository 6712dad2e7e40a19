"""What requests about vector stores say, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import msgspec
from msgspec import Meta

from ollama_proxy.api.vector_stores.errors import invalid
from ollama_proxy.domain.library import DENSE_WEIGHT, TEXT_WEIGHT, UNNAMEABLE, Attributes, Chunking, Page, Query, Wanted
from ollama_proxy.net.http_request import decode_body

_MOST_LISTED = 100
_MOST_FILES = 2000
_MOST_ATTRIBUTES = 16
_MOST_KEY_CHARS = 64
_MOST_VALUE_CHARS = 512
_STATUSES = ("in_progress", "completed", "failed", "cancelled")
_ORDERS = ("asc", "desc")
_PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
_MOST_KEEP_S = 2_592_000


class _ExpiresAfter(msgspec.Struct):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class _Static(msgspec.Struct):
    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0)]


class _Strategy(msgspec.Struct):
    type: Literal["auto", "static"]
    static: _Static | None = None


class _NewStore(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    file_ids: list[str] = []
    expires_after: _ExpiresAfter | None = None
    chunking_strategy: _Strategy | None = None
    metadata: dict[str, Any] | None = None
    #: Not OpenAI's: what makes the vectors.
    embedding_model: str = ""


class _ChangedStore(msgspec.Struct):
    name: str | msgspec.UnsetType | None = msgspec.UNSET
    expires_after: _ExpiresAfter | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


class _OneFile(msgspec.Struct):
    file_id: str
    attributes: dict[str, Any] | None = None
    chunking_strategy: _Strategy | None = None


class _Batch(msgspec.Struct):
    file_ids: list[str] = []
    files: list[_OneFile] = []
    attributes: dict[str, Any] | None = None
    chunking_strategy: _Strategy | None = None


class _Attributes(msgspec.Struct):
    attributes: dict[str, Any] | None


class _Hybrid(msgspec.Struct):
    embedding_weight: Annotated[float, Meta(ge=0, le=1e6)]
    text_weight: Annotated[float, Meta(ge=0, le=1e6)]


class Ranking(msgspec.Struct):
    """How results are put in order."""

    ranker: str = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    hybrid_search: _Hybrid | None = None


class _Search(msgspec.Struct):
    query: str | list[str]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] = 10
    ranking_options: Ranking | None = None
    rewrite_query: bool = False


class FormFields(msgspec.Struct):
    """What comes with an upload."""

    purpose: str
    keep_s: int | None


_new_stores = msgspec.json.Decoder(_NewStore)
_changed_stores = msgspec.json.Decoder(_ChangedStore)
_one_files = msgspec.json.Decoder(_OneFile)
_batches = msgspec.json.Decoder(_Batch)
_attributes = msgspec.json.Decoder(_Attributes)
_searches = msgspec.json.Decoder(_Search)


def read_new_store(body: bytes) -> tuple[dict[str, Any], list[Wanted]]:
    """What a new store is like, and the files that go into it. Raises `ProxyError`, as all of these."""
    asked = decode_body(_new_stores, body or b"{}")
    after = asked.expires_after
    made: dict[str, Any] = {
        "name": asked.name or "",
        "description": asked.description or "",
        "metadata": _read_metadata(asked.metadata),
        "expire_days": None if after is None else after.days,
        "model": asked.embedding_model,
    }
    return made, _wanted(asked.file_ids, {}, _read_strategy(asked.chunking_strategy))


def read_changes(body: bytes) -> dict[str, Any]:
    """What is to be another."""
    asked = decode_body(_changed_stores, body)
    changes: dict[str, Any] = {}
    if not isinstance(asked.name, msgspec.UnsetType):
        changes["name"] = asked.name or ""
    if not isinstance(asked.expires_after, msgspec.UnsetType):
        changes["expire_days"] = None if asked.expires_after is None else asked.expires_after.days
    if not isinstance(asked.metadata, msgspec.UnsetType):
        changes["metadata"] = _read_metadata(asked.metadata)
    return changes


def read_one_file(body: bytes) -> Wanted:
    """One file for a store."""
    return _want(decode_body(_one_files, body))


def _want(asked: _OneFile) -> Wanted:
    return Wanted(asked.file_id, _read_attributes(asked.attributes), _read_strategy(asked.chunking_strategy))


def read_batch(body: bytes) -> list[Wanted]:
    """Files for a store."""
    asked = decode_body(_batches, body)
    if bool(asked.file_ids) == bool(asked.files):
        raise invalid("give either file_ids or files")
    if asked.files:
        if len(asked.files) > _MOST_FILES:
            raise invalid(f"files: at most {_MOST_FILES} at once")
        return [_want(one) for one in asked.files]
    attributes = _read_attributes(asked.attributes)
    return _wanted(asked.file_ids, attributes, _read_strategy(asked.chunking_strategy))


def _wanted(files: list[str], attributes: Attributes, chunking: Chunking | None) -> list[Wanted]:
    if len(files) > _MOST_FILES:
        raise invalid(f"file_ids: at most {_MOST_FILES} at once")
    return [Wanted(one, attributes, chunking) for one in dict.fromkeys(files)]


def read_new_attributes(body: bytes) -> Attributes:
    """Other attributes of a file."""
    return _read_attributes(decode_body(_attributes, body).attributes)


def _read_strategy(asked: _Strategy | None) -> Chunking | None:
    if asked is None or asked.type == "auto":
        return None
    if asked.static is None:
        raise invalid("chunking_strategy.static is missing")
    size, overlap = asked.static.max_chunk_size_tokens, asked.static.chunk_overlap_tokens
    if overlap > size // 2:
        raise invalid("chunk_overlap_tokens: at most half of max_chunk_size_tokens")
    return Chunking(size, overlap)


def _read_metadata(given: Mapping[str, Any] | None) -> dict[str, str]:
    found = _read_attributes(given, "metadata")
    if not all(isinstance(value, str) for value in found.values()):
        raise invalid("metadata: the values are texts")
    return {key: str(value) for key, value in found.items()}


def _read_attributes(given: Mapping[str, Any] | None, where: str = "attributes") -> Attributes:
    given = given or {}
    if len(given) > _MOST_ATTRIBUTES:
        raise invalid(f"{where}: at most {_MOST_ATTRIBUTES}")
    for key, value in given.items():
        if not 0 < len(key) <= _MOST_KEY_CHARS or UNNAMEABLE.search(key):
            raise invalid(
                f"{where}: names have 1 to {_MOST_KEY_CHARS} characters, without quotes, backslashes and tabs"
            )
        number = isinstance(value, int | float) and math.isfinite(value)
        if not (isinstance(value, bool) or number or (isinstance(value, str) and len(value) <= _MOST_VALUE_CHARS)):
            raise invalid(f"{where}.{key}: a text of at most {_MOST_VALUE_CHARS} characters, a number or a boolean")
    return given


def read_search(body: bytes) -> Query:
    """A search."""
    asked = decode_body(_searches, body)
    texts = [asked.query] if isinstance(asked.query, str) else asked.query
    if not 0 < len(texts) <= 16 or not all(text.strip() for text in texts):
        raise invalid("query: a text, or a list of 1 to 16, none of them empty")
    return make_query(texts, asked.max_num_results, asked.filters, asked.ranking_options)


def make_query(texts: list[str], most: int, filters: Mapping[str, Any] | None, ranking: Ranking | None) -> Query:
    """A search as the library takes it."""
    ranking = ranking or Ranking()
    dense, text = DENSE_WEIGHT, TEXT_WEIGHT
    if ranking.hybrid_search is not None:
        dense, text = ranking.hybrid_search.embedding_weight, ranking.hybrid_search.text_weight
        if not dense + text:
            raise invalid("hybrid_search: one of the weights is above 0")
    return Query(tuple(texts), most, filters, ranking.score_threshold, ranking.ranker, dense, text)


def read_page(query: bytes, most: int = _MOST_LISTED, usual: int = 20) -> tuple[Page, dict[str, str]]:
    """The part of a list that a query string asks for, and its other members."""
    try:
        pairs = parse_qs(query.decode("ascii"), max_num_fields=20)
    except ValueError:
        raise invalid("the query string cannot be read") from None
    asked = {name: values[-1] for name, values in pairs.items()}
    limit = asked.pop("limit", str(usual))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= most):
        raise invalid(f"limit: expected a number from 1 to {most}")
    order = asked.pop("order", "desc")
    if order not in _ORDERS:
        raise invalid("order: expected asc or desc")
    page = Page(int(limit), order == "asc", asked.pop("after", ""), asked.pop("before", ""))
    return page, asked


def read_status(asked: Mapping[str, str]) -> str:
    """The status of those that a list is about, "" for all."""
    status = asked.get("filter", "")
    if status and status not in _STATUSES:
        raise invalid(f"filter: expected one of {', '.join(_STATUSES)}")
    return status


def read_purpose(given: str) -> str:
    """What a file is for."""
    if given not in _PURPOSES:
        raise invalid(f"purpose: expected one of {', '.join(_PURPOSES)}")
    return given


def read_keep(anchor: str, seconds: str) -> int | None:
    """For how many seconds a file is kept, None for ever."""
    if not anchor and not seconds:
        return None
    good = seconds.isascii() and seconds.isdigit() and len(seconds) < 9 and 3600 <= int(seconds) <= _MOST_KEEP_S
    if anchor != "created_at" or not good:
        raise invalid(f"expires_after: expected the anchor created_at and seconds from 3600 to {_MOST_KEEP_S}")
    return int(seconds)
