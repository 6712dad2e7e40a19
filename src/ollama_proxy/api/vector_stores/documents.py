"""Files, stores and what is in them as OpenAI's objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ollama_proxy.domain.library import Attached, Batch, Counts, Hit, KeptFile, Store


def describe_file(file: KeptFile) -> dict[str, Any]:
    """A `file`."""
    found = {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_s,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
    return found if file.expires_s is None else {**found, "expires_at": file.expires_s}


def describe_store(store: Store) -> dict[str, Any]:
    """A `vector_store`; what makes and holds its vectors besides."""
    days = store.expire_days
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_s,
        "name": store.name,
        "description": store.description,
        "usage_bytes": store.bytes,
        "file_counts": _describe_counts(store.counts),
        "status": "in_progress" if store.counts.in_progress else "completed",
        "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
        "expires_at": store.expires_s,
        "last_active_at": store.active_s,
        "metadata": store.metadata,
        "backend": store.backend or "embedded",
        "embedding": {
            "model": store.model or None,
            "digest": store.digest or None,
            "dimensions": store.dimensions or None,
        },
    }


def _describe_counts(counts: Counts) -> dict[str, int]:
    return {
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


def describe_attached(attached: Attached) -> dict[str, Any]:
    """A `vector_store.file`, and how far it is."""
    error = {"code": attached.error_code, "message": attached.error} if attached.error_code else None
    chunking = attached.chunking
    return {
        "id": attached.file,
        "object": "vector_store.file",
        "created_at": attached.created_s,
        "usage_bytes": attached.bytes,
        "vector_store_id": attached.store,
        "status": attached.status,
        "last_error": error,
        "chunking_strategy": {
            "type": "static",
            "static": {"max_chunk_size_tokens": chunking.size, "chunk_overlap_tokens": chunking.overlap},
        },
        "attributes": attached.attributes,
        "progress": {"passages": attached.passages, "embedded": attached.done},
    }


def describe_batch(batch: Batch) -> dict[str, Any]:
    """A `vector_store.files_batch`."""
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_s,
        "vector_store_id": batch.store,
        "status": batch.status,
        "file_counts": _describe_counts(batch.counts),
    }


def describe_list(documents: Sequence[dict[str, Any]], more: bool) -> dict[str, Any]:
    """Part of a list."""
    return {
        "object": "list",
        "data": documents,
        "first_id": documents[0]["id"] if documents else None,
        "last_id": documents[-1]["id"] if documents else None,
        "has_more": more,
    }


def describe_hits(queries: Sequence[str], hits: Sequence[Hit]) -> dict[str, Any]:
    """A page of search results: all of them, for there is no second page."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(queries),
        "data": [describe_hit(hit) for hit in hits],
        "has_more": False,
        "next_page": None,
    }


def describe_hit(hit: Hit) -> dict[str, Any]:
    """One result, with the place of its text in the file's."""
    return {
        "file_id": hit.file,
        "filename": hit.name,
        "score": round(hit.score, 6),
        "attributes": hit.attributes,
        "content": [{"type": "text", "text": hit.text}],
        "span": {"start": hit.start, "end": hit.end},
    }


def describe_deleted(ident: str, kind: str) -> dict[str, Any]:
    """What is gone."""
    return {"id": ident, "object": kind, "deleted": True}


def describe_content(pieces: Sequence[str]) -> dict[str, Any]:
    """The text of a file in pieces."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": piece} for piece in pieces],
        "has_more": False,
        "next_page": None,
    }


def page_of(describe: Callable[[Any], dict[str, Any]], found: tuple[Sequence[Any], bool]) -> dict[str, Any]:
    """A part of a list, described."""
    return describe_list([describe(one) for one in found[0]], found[1])
