"""Answers that are kept for requests which come again."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Seconds, Section


class Semantic(Section, frozen=True):
    """Answers to prompts that mean the same as one from before. Everything but the prompt must be equal."""

    enabled: Annotated[bool, Meta(description="look for them where the same request was not found")] = False
    model: Annotated[
        str, Meta(max_length=256, description="that makes the vectors; empty takes embeddings.default_model")
    ] = ""
    threshold: Annotated[
        float,
        Meta(ge=0.5, le=1, description="likeness (cosine) from which on; `ollama-proxy cache calibrate` finds one"),
    ] = 0.9
    multi_turn: Annotated[bool, Meta(description="for the last prompt of a conversation, too")] = False
    max_entries: Annotated[int, Meta(ge=1, le=1_000_000, description="prompts that are remembered")] = 10_000
    timeout_ms: Annotated[
        float, Meta(gt=0, le=60_000, description="a request waits no longer for its prompt's vector")
    ] = 2000


class Cache(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="requests may ask for it (`cache_enabled`)")] = True
    type: Annotated[
        Literal["memory", "sqlite", "valkey", "redis"],
        Meta(description="where answers lie; redis is another name of valkey, and either server will do"),
    ] = "memory"
    ttl_seconds: Annotated[Seconds, Meta(description="older answers are not given any more")] = 3600
    max_size_mb: Annotated[
        float, Meta(gt=0, le=1e9, description="of all answers; those go first that save the fewest joules a byte")
    ] = 1024
    near_mb: Annotated[
        float,
        Meta(
            ge=0,
            le=1e9,
            description="types sqlite and valkey: of max_size_mb, for answers that are held in this process too, so "
            "that they are found sooner; an eighth of it at most. 0 holds none",
        ),
    ] = 64
    key_includes: Annotated[
        tuple[str, ...], Meta(description="for older files: all that changes the answer is part of the key anyway")
    ] = ("prompt", "model", "temperature", "top_p")
    models: Annotated[
        tuple[str, ...], Meta(description="patterns of models whose requests use the cache without asking for it")
    ] = ()
    keys: Annotated[
        tuple[str, ...], Meta(description="names of API keys whose requests use the cache without asking for it")
    ] = ()
    sampled: Annotated[
        Literal["asked", "always", "never"],
        Meta(
            description="requests with neither temperature 0 nor a seed: cached when the request itself asks, always "
            "(so that models and keys above hold for them, too), or never"
        ),
    ] = "asked"
    path: Annotated[
        str,
        Meta(
            description="type sqlite: the file; empty takes ollama-proxy/cache.sqlite in XDG_STATE_HOME or "
            "~/.local/state"
        ),
    ] = ""
    url: Annotated[
        str,
        Meta(
            pattern=r"^((valkeys?|rediss?)://[^\s/@]+(/[0-9]+)?|unix:///\S+)(?![\s\S])",
            description="type valkey: the server, such as valkey://10.0.0.5:6379/0; valkeys:// with TLS",
        ),
    ] = "valkey://127.0.0.1:6379/0"
    password_env: Annotated[str, Meta(description="type valkey: the variable that holds the server's password")] = ""
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.:-]{1,64}(?![\s\S])",
            description="type valkey: what the names of all keys begin with; proxies that share answers have the same",
        ),
    ] = "ollama-proxy"
    semantic: Semantic = Semantic()
    timeout_ms: Annotated[
        float, Meta(gt=0, le=60_000, description="type valkey: a request waits no longer for the server")
    ] = 100
