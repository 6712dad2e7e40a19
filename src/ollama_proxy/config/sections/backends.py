"""The servers behind the proxy: where they are, what they have, and what is known of their devices."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section

#: The types of backends that are built in, and where packages name theirs.
KINDS = ("ollama", "openai", "anthropic", "vectordb")
KINDS_GROUP = "ollama_proxy.backends"


class Characteristics(Section, frozen=True):
    power_watts: Annotated[float, Meta(ge=0, le=1e9, description="draw under load")] = 0
    avg_latency_ms: Annotated[float, Meta(ge=0, le=1e9, description="time to the first token")] = 0
    priority: Annotated[int, Meta(description="of equal cost the higher")] = 0
    max_tokens_per_second: Annotated[float, Meta(ge=0, le=1e9, description="decode speed")] = 0
    prefill_tokens_per_second: Annotated[float, Meta(ge=0, le=1e9, description="0 = 15 times the decode speed")] = 0
    prefill_watts: Annotated[float, Meta(ge=0, le=1e9, description="draw while reading a prompt; 0 = power_watts")] = 0
    load_seconds: Annotated[float, Meta(ge=0, le=1e6, description="to load a model; 0 = by its size")] = 0
    suspend_after_seconds: Annotated[
        float,
        Meta(ge=0, le=1e9, description="a device that suspends itself: after so long without work; 0 = it does not"),
    ] = 0
    wake_seconds: Annotated[float, Meta(ge=0, le=1e4, description="that waking it takes")] = 0
    wake_joules: Annotated[
        float, Meta(ge=0, le=1e9, description="what waking it costs, with all that it draws until it sleeps again")
    ] = 0
    throttle_celsius: Annotated[
        float, Meta(ge=0, le=200, description="degrees at which the device is throttled; 0 = as its sensor tells")
    ] = 0
    parallel_exponent: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="k requests at once get k to this power done, in units of one alone; a prior, as the speeds "
            "are: where slots is above 1 it is learned for each model",
        ),
    ] = 0.8


class ModelCapability(Section, frozen=True):
    max_model_size_gb: Annotated[float, Meta(ge=0, le=1e9, description="0 = no limit")] = 0
    supported_model_patterns: Annotated[
        tuple[str, ...],
        Meta(description="only these models; a name written out is let in whatever excluded_patterns say; empty: all"),
    ] = ()
    preferred_models: Annotated[tuple[str, ...], Meta(description="of equal cost, whoever prefers the model")] = ()
    excluded_patterns: Annotated[tuple[str, ...], Meta(description="models that are not asked for here")] = ()


class Backend(Section, frozen=True):
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?![\s\S])")]
    endpoint: Annotated[
        str,
        Meta(
            description="http(s)://host:port, with a path if the server has one; for type vectordb the address of a "
            "Qdrant, or postgresql://user@host:port/database"
        ),
    ]
    type: Annotated[
        str,
        Meta(
            examples=list(KINDS),
            description="ollama, openai (whatever is compatible), anthropic or vectordb; or a kind that an installed "
            "package brings, by the name of its entry point in the group ollama_proxy.backends",
        ),
    ] = "ollama"
    name: str = ""
    hardware: Literal["npu", "igpu", "nvidia", "cpu", "cloud"] = "cpu"
    enabled: bool = True
    api_key_env: Annotated[str, Meta(description="the variable that holds the key")] = ""
    transparent: Annotated[
        bool,
        Meta(
            description="gets, as it came, what no route and no model of another backend claims; neither probed nor "
            "listed; one at most"
        ),
    ] = False
    slots: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="requests the server runs at once (OLLAMA_NUM_PARALLEL); more wait in the proxy, most urgent "
            "first, for whichever backend is best when one is free; 0: not known, all are sent on at once",
        ),
    ] = 0
    memory_pool: Annotated[
        str,
        Meta(
            max_length=253,
            description="devices of the same name share a machine's memory and power, and how much they slow each "
            "other down is learned and reckoned with; empty: npu, igpu and cpu whose endpoints have the same host; "
            "none: nobody",
        ),
    ] = ""
    models: Annotated[tuple[str, ...], Meta(description="names, for servers without a list")] = ()
    apis: Annotated[
        tuple[Literal["responses"], ...],
        Meta(description="what a server of type openai speaks besides chat: such requests go to it as they came"),
    ] = ()
    capabilities: Annotated[
        tuple[Literal["audio", "continuation", "speech", "images", "rerank", "suffix"], ...],
        Meta(
            description="what a server of type openai can do besides text, vectors and reading images; continuation is "
            "to go on with an answer that another has begun: for type anthropic, too, and known of llama.cpp and vLLM"
        ),
    ] = ()
    max_tokens: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="type anthropic: the limit of answers that are asked for without one"),
    ] = 4096
    model_names: Annotated[dict[str, str], Meta(description="name here: what this server calls the model")] = {}
    memory_gb: Annotated[
        float, Meta(ge=0, le=1e6, description="for models; larger ones are not sent there, others cost what they evict")
    ] = 0
    characteristics: Characteristics = Characteristics()
    model_capability: ModelCapability = ModelCapability()
