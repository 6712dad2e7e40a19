"""Files and vector stores."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ollama_proxy.config.sections.section import Section


class Ingest(Section, frozen=True):
    """When and where files become vectors."""

    target: Annotated[
        str,
        Meta(
            description="ids of backends or hardware words, with commas between, any of which may embed them (as "
            "X-Target-Backend); empty: any at all"
        ),
    ] = ""
    on_mains_only: Annotated[bool, Meta(description="wait while the machine runs on its battery")] = False
    hours: Annotated[
        str,
        Meta(
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?(?![\s\S])",
            description="such as 22:00-07:00, local time: only then; empty: always",
        ),
    ] = ""
    batch: Annotated[int, Meta(ge=1, le=2048, description="passages that are embedded by one request")] = 64


class VectorStores(Section, frozen=True):
    """`/v1/files`, `/v1/vector_stores`, `file_search` and `retrieve`. Nothing is opened before the first is used."""

    enabled: bool = True
    folder: Annotated[
        str,
        Meta(
            description="where files, texts and the embedded store lie; empty takes ollama-proxy/vectors in "
            "XDG_STATE_HOME or ~/.local/state"
        ),
    ] = ""
    backend: Annotated[
        str,
        Meta(
            description="for new stores: the id of a backend of type vectordb, or embedded; empty takes the first "
            "enabled backend of that type, if there is one"
        ),
    ] = ""
    embedding_model: Annotated[str, Meta(description="for new stores; empty takes embeddings.default_model")] = ""
    rerank_model: Annotated[
        str,
        Meta(
            description="a model of a backend with the capability rerank that puts results in order, unless a request "
            "says `ranker: none`; empty: results are in the order of their ranks"
        ),
    ] = ""
    chunk_tokens: Annotated[int, Meta(ge=16, le=4096, description="of a passage, where a request does not say")] = 256
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048, description="at most half of it")] = 64
    max_file_mb: Annotated[float, Meta(gt=0, le=4096)] = 64
    max_mb_per_key: Annotated[float, Meta(gt=0, le=1e9, description="all files that one key has brought")] = 10240
    memory_mb: Annotated[
        float, Meta(ge=0, le=1e6, description="for the embedded store; what has no room is read for each search")
    ] = 512
    ingest: Ingest = Ingest()
