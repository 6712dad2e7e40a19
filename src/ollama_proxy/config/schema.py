"""The whole configuration as types, with its defaults; the JSON Schema is made from this file."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ollama_proxy.config.sections.cache import Cache
from ollama_proxy.config.sections.embeddings import Embeddings
from ollama_proxy.config.sections.section import Seconds, Section
from ollama_proxy.config.sections.slow_readers import SlowReaders
from ollama_proxy.config.sections.timeouts import Timeouts
from ollama_proxy.config.sections.vectors import VectorStores

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes any free one")]
#: As Ollama's own list has them; one `*` stands for anything.
Origin = Annotated[str, Meta(pattern=r"^(\*|[^*]*\*[^*]*|[a-z][a-z0-9+.-]*://[^*]+)(?![\s\S])")]
PerKwh = Annotated[float, Meta(ge=0, le=1e6)]


class Tls(Section, frozen=True):
    enabled: bool = False
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""


KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}(?![\s\S])")]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000, description="0 = no limit")]
WattHours = Annotated[float, Meta(ge=0, le=1e9, description="0 = no limit")]


class Grant(Section, frozen=True):
    """What a key may do and use."""

    permissions: Annotated[
        tuple[Literal["infer", "models", "admin"], ...],
        Meta(description="infer: ask models; models: pull, create, copy, delete, push, blobs; admin: run the proxy"),
    ] = ("infer",)
    models: Annotated[tuple[str, ...], Meta(description="patterns of the models it may use and see; empty: all")] = ()
    backends: Annotated[tuple[str, ...], Meta(description="ids of those it may use and see; empty: all")] = ()
    requests_per_minute: Count = 0
    tokens_per_minute: Annotated[Count, Meta(description="of prompts and answers; 0 = no limit")] = 0
    wh_per_hour: WattHours = 0
    wh_per_day: WattHours = 0
    concurrent: Annotated[Count, Meta(description="requests at once; 0 = no limit")] = 0
    continuation: Annotated[
        Literal["auto", "never"],
        Meta(description="whether another backend goes on with its streams that break off; never: an error ends them"),
    ] = "auto"
    expires: Annotated[
        str,
        Meta(
            pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?)?(?![\s\S])",
            description="UTC, such as 2027-01-31 or 2027-01-31T12:00Z; empty: never",
        ),
    ] = ""


class ApiKey(Grant, frozen=True):
    """One key of the file: its hash, or where it is, or a certificate in its place; never itself."""

    key_hash: Annotated[str, Meta(description="`sha256:` and 64 digits, as `ollama-proxy keys hash` prints it")] = ""
    key_env: Annotated[str, Meta(description="the variable that holds it")] = ""
    key_file: Annotated[str, Meta(description="the file that holds it and nothing else")] = ""
    certificate: Annotated[
        str,
        Meta(
            description="in place of a key: a name (DNS, URI, e-mail address, else common name) in a certificate that "
            "`server.tls.client_ca_file` has signed"
        ),
    ] = ""
    enabled: bool = True

    def __repr__(self) -> str:
        return f"ApiKey(permissions={self.permissions}, enabled={self.enabled})"


class Auth(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="every request needs a key, but those for `/healthz` and the like")] = (
        False
    )
    api_keys: Annotated[dict[KeyName, ApiKey], Meta(description="besides those of `ollama-proxy keys add`")] = {}
    keys_file: Annotated[
        str,
        Meta(
            description="where `ollama-proxy keys` keeps hashes; empty takes ollama-proxy/keys.json in XDG_STATE_HOME "
            "or ~/.local/state"
        ),
    ] = ""
    audit_file: Annotated[
        str,
        Meta(
            description="who changed what: a line of JSON for each act; empty takes ollama-proxy/audit.jsonl in "
            "XDG_STATE_HOME or ~/.local/state"
        ),
    ] = ""
    open_metrics: Annotated[bool, Meta(description="`/metrics` needs no key")] = False


class RateLimit(Section, frozen=True):
    enabled: bool = False
    rate: Annotated[float, Meta(gt=0, le=1e9, description="requests a second")] = 10
    burst: Annotated[int, Meta(ge=1, description="requests at once")] = 20


class Server(Section, frozen=True):
    host: str = "127.0.0.1"
    grpc_port: Port = 50051
    http_port: Port = 8080
    tls: Tls = Tls()
    auth: Auth = Auth()
    rate_limit: RateLimit = RateLimit()
    slow_readers: SlowReaders = SlowReaders()
    allow_public_without_keys: Annotated[
        bool,
        Meta(
            description="listen on other than loopback addresses without keys, as in a container whose port is not "
            "published to others; models are then changed from this machine only"
        ),
    ] = False
    allowed_origins: Annotated[
        tuple[Origin, ...], Meta(description="web pages that may ask, besides local ones; `*` for all")
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names it answers to on a loopback address, besides local ones; `*` for all"),
    ] = ()


class Process(Section, frozen=True):
    """How it is told of changes, and how it ends."""

    reload_on_change: Annotated[
        bool, Meta(description="take up the file when it changes, as SIGHUP and `POST /proxy/reload` do")
    ] = True
    grace_seconds: Annotated[
        float, Meta(ge=0, le=86400, description="after SIGTERM, for answers that run; what is left then gets an error")
    ] = 30
    memory_limit_mb: Annotated[
        float,
        Meta(ge=0, le=1e9, description="of this process, for the marks below; 0 = that of the control group, if any"),
    ] = 0
    shed_low_at: Annotated[
        float,
        Meta(gt=0, le=1, description="share of memory or descriptors from which requests of low priority are refused"),
    ] = 0.85
    shed_all_at: Annotated[
        float, Meta(gt=0, le=1, description="and from which all new ones are; those that run go on")
    ] = 0.95
    drain_delay_seconds: Annotated[
        float,
        Meta(ge=0, le=3600, description="before that: not ready, but serving on, until load balancers have noticed"),
    ] = 0
    control_socket: Annotated[
        str,
        Meta(
            description="where a successor (`--take-over`) asks for the listening sockets; empty takes "
            "ollama-proxy/control-<HTTP port>.sock in XDG_RUNTIME_DIR, else in XDG_STATE_HOME or ~/.local/state"
        ),
    ] = ""


class Embedded(Section, frozen=True):
    enabled: Literal["auto", "always", "never"] = "auto"
    model_path: Annotated[str, Meta(description="a GGUF file; empty takes the installed SmolLM2")] = ""
    threads: Annotated[int, Meta(ge=0, le=1024, description="0 = the number of cores, at most 8")] = 0


class Characteristics(Section, frozen=True):
    power_watts: Annotated[float, Meta(ge=0, le=1e9, description="draw under load")] = 0
    avg_latency_ms: Annotated[float, Meta(ge=0, le=1e9, description="time to the first token")] = 0
    priority: int = 0
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
    supported_model_patterns: tuple[str, ...] = ()
    preferred_models: tuple[str, ...] = ()
    excluded_patterns: tuple[str, ...] = ()


class Backend(Section, frozen=True):
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?![\s\S])")]
    endpoint: Annotated[
        str,
        Meta(
            description="http(s)://host:port, with a path if the server has one; for type vectordb the address of a "
            "Qdrant, or postgresql://user@host:port/database"
        ),
    ]
    type: Literal["ollama", "openai", "anthropic", "vectordb"] = "ollama"
    name: str = ""
    hardware: Literal["npu", "igpu", "nvidia", "cpu", "cloud"] = "cpu"
    enabled: bool = True
    api_key_env: Annotated[str, Meta(description="the variable that holds the key")] = ""
    transparent: bool = False
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


class Models(Section, frozen=True):
    placement: Annotated[
        Literal["first", "all"] | tuple[str, ...],
        Meta(description="where pull, create and uploads go: the default backend, all of type ollama, or these ids"),
    ] = "first"
    default: Annotated[str, Meta(description="for requests that name no model; empty refuses them")] = ""
    aliases: Annotated[dict[str, str], Meta(description="another name: the model it stands for, on every backend")] = {}
    substitutes: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="model: what may answer for it, in this order, when no backend can; the answer says so"),
    ] = {}


class Routing(Section, frozen=True):
    default_backend: str = ""
    power_aware: bool = True
    auto_optimize_latency: bool = True
    fallback_strategy: Literal["next_best", "none"] = "next_best"
    policy: Annotated[
        Literal[
            "predictive",
            "round-robin",
            "least-connections",
            "static-shipped",
            "static-documented",
            "fastest",
            "greenest",
            "shortest-expected-delay",
        ],
        Meta(description="how backends that could take a request are compared"),
    ] = "predictive"
    latency_probability: Annotated[
        float, Meta(gt=0, lt=1, description="how surely a latency limit is to be kept, where a request does not say")
    ] = 0.95
    latency_metric: Annotated[
        Literal["e2e", "ttft"], Meta(description="what a latency limit is about: the last token or the first")
    ] = "e2e"
    on_infeasible: Annotated[
        Literal["best_effort", "reject", "degrade"],
        Meta(
            description="when nobody keeps a latency limit surely: take the best chance, refuse, or try a substitute "
            "of the model first"
        ),
    ] = "best_effort"
    efficient_patience: Annotated[
        float,
        Meta(
            ge=1,
            le=1e9,
            description="requests that wish power efficiency do not go where they would end later than so many times "
            "the soonest end",
        ),
    ] = 10
    prefix_affinity: Annotated[
        bool, Meta(description="reckon with what slots still hold of a long prompt, by hashes of its beginning")
    ] = True
    system_cap_watts: Annotated[
        float,
        Meta(
            ge=0,
            le=1e9,
            description="only backends that fit under it together run; a request that only others can take waits "
            "until there is room; 0 = no cap",
        ),
    ] = 0
    continuation: Annotated[
        Literal["auto", "never"],
        Meta(
            description="whether another backend goes on with a stream that breaks off; `never`, as the header "
            "`X-Continue: never` says of one request, ends it with an error"
        ),
    ] = "auto"
    hedge: Annotated[
        Literal["off", "critical"],
        Meta(
            description="send a streamed request that is latency_critical and late to a second, idle backend as well; "
            "whichever begins first answers; at most one request in twenty"
        ),
    ] = "off"
    adaptive_slots: Annotated[
        bool,
        Meta(
            description="where no `slots` are configured: once answers take long, send a server only as much at once "
            "as it does well with; the rest waits here"
        ),
    ] = False
    max_waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="requests that may wait for a slot; when full, a more urgent one takes the last one's place",
        ),
    ] = 512
    max_waiting_mb: Annotated[float, Meta(gt=0, le=1e6, description="and their bodies together")] = 256
    max_wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="a new request of normal or lower priority is refused where those before it wait for longer; "
            "0 = never",
        ),
    ] = 600
    record_file: Annotated[
        str,
        Meta(
            description="every decision with what it read, a line of JSON each, for `ollama-proxy replay`; at 64 MB it "
            "makes way for a new one and stays beside it as `.1`; empty records none"
        ),
    ] = ""


class Responses(Section, frozen=True):
    """What `/v1/responses` keeps of its answers, in memory: for `previous_response_id` and for retrieval."""

    store_max_entries: Annotated[int, Meta(ge=0, description="answers kept; 0 keeps none")] = 1000
    store_max_mb: Annotated[float, Meta(gt=0, le=1e6)] = 64
    ttl_seconds: Seconds = 86400


class Health(Section, frozen=True):
    enabled: bool = True
    interval_seconds: Seconds = 30
    timeout_seconds: Seconds = 5
    unhealthy_threshold: Annotated[int, Meta(ge=1)] = 3


class Monitoring(Section, frozen=True):
    enabled: bool = True
    prometheus_port: Annotated[int, Meta(ge=0, le=65535, description="0 = on the HTTP port only")] = 9090
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    trace_requests: bool = True


class MeterSource(Section, frozen=True):
    """One meter that is not found by itself, or that is to be read in another way than by itself."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(?![\s\S])")]
    type: Literal["powercap", "hwmon", "nvml", "npu", "supply", "http", "command"]
    backends: Annotated[tuple[str, ...], Meta(description="ids of the backends whose devices it measures")] = ()
    devices: Annotated[
        tuple[str, ...], Meta(description="ends of source ids, such as `package-0`; empty takes all of this type")
    ] = ()
    url: Annotated[str, Meta(description="type http: the plug's address; a preset adds the path if there is none")] = ""
    preset: Annotated[
        Literal["", "shelly-gen1", "shelly-gen2", "tasmota", "home-assistant"],
        Meta(
            description="type http: what kind of plug it is; without one, `pointer` and `unit` say where the figure is"
        ),
    ] = ""
    pointer: Annotated[str, Meta(description="type http: JSON pointer to the figure, such as `/power`")] = ""
    unit: Annotated[
        Literal["", "uW", "mW", "W", "kW", "uJ", "mJ", "J", "kJ", "Wmin", "Wh", "kWh"],
        Meta(description="types http and command: energies count up, powers are of now"),
    ] = ""
    token_env: Annotated[str, Meta(description="type http: the variable that holds a bearer token")] = ""
    command: Annotated[
        tuple[str, ...], Meta(description="type command: program and arguments, no shell; prints a number")
    ] = ()
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 2
    interval_seconds: Annotated[float, Meta(ge=0.1, le=3600, description="types http and command: how often")] = 1
    max_watts: Annotated[
        float, Meta(ge=0, le=1e6, description="what its device never exceeds; 0 takes the type's own")
    ] = 0
    emulated: Annotated[bool, Meta(description="types http and command: the figures are not of a real device")] = False


class Meters(Section, frozen=True):
    enabled: Annotated[
        Literal["auto", "never"], Meta(description="auto reads the counters that this machine has, and `sources`")
    ] = "auto"
    active_interval_seconds: Annotated[
        float, Meta(ge=0.05, le=10, description="between two looks while a request runs")
    ] = 0.15
    idle_interval_seconds: Annotated[float, Meta(ge=0.05, le=60, description="between two looks otherwise")] = 2
    sources: tuple[MeterSource, ...] = ()


class Energy(Section, frozen=True):
    """What a kilowatt hour costs, and the ledger of what each request took."""

    price_per_kwh: Annotated[
        PerKwh | None, Meta(description="for costs in `ollama-proxy ledger`; left off, none are shown")
    ] = None
    currency: Annotated[str, Meta(max_length=16, description="of the price")] = "EUR"
    carbon_g_per_kwh: Annotated[PerKwh | None, Meta(description="grams of CO2; left off, none are shown")] = None
    budget_wh_per_hour: Annotated[
        float,
        Meta(ge=0, le=1e9, description="when the last hour took as much, requests are refused (503); 0 = no limit"),
    ] = 0
    ledger: Annotated[bool, Meta(description="keep one; it has names, counts and joules, and no prompts")] = True
    ledger_path: Annotated[
        str, Meta(description="SQLite file; empty takes ollama-proxy/ledger.sqlite in XDG_STATE_HOME or ~/.local/state")
    ] = ""
    retention_days: Annotated[float, Meta(gt=0, le=36500, description="older rows are deleted")] = 365


class Learning(Section, frozen=True):
    """What traffic teaches of speeds and lengths of answers, kept over restarts."""

    keep: Annotated[bool, Meta(description="write it down once a minute and at the end")] = True
    path: Annotated[
        str, Meta(description="JSON file; empty takes ollama-proxy/learned.json in XDG_STATE_HOME or ~/.local/state")
    ] = ""


class Thermal(Section, frozen=True):
    enabled: bool = True


class Efficiency(Section, frozen=True):
    enabled: bool = True
    default_mode: Literal["Performance", "Balanced", "Efficiency", "Quiet", "Auto", "UltraEfficiency"] = "Balanced"
    quiet_max_watts: Annotated[
        float, Meta(gt=0, le=1e9, description="mode Quiet leaves devices alone that draw more, while another serves")
    ] = 30
    quiet_hours: Annotated[
        str,
        Meta(
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?(?![\s\S])",
            description="such as 22:00-07:00, local time: modes Balanced and Auto are Quiet then",
        ),
    ] = ""


class Pipelines(Section, frozen=True):
    enabled: bool = False
    config_file: str = ""


class Config(Section, frozen=True):
    """The file."""

    server: Server = Server()
    process: Process = Process()
    embedded: Embedded = Embedded()
    backends: tuple[Backend, ...] = ()
    models: Models = Models()
    embeddings: Embeddings = Embeddings()
    routing: Routing = Routing()
    timeouts: Timeouts = Timeouts()
    cache: Cache = Cache()
    vectors: VectorStores = VectorStores()
    responses: Responses = Responses()
    health: Health = Health()
    monitoring: Monitoring = Monitoring()
    meters: Meters = Meters()
    energy: Energy = Energy()
    learning: Learning = Learning()
    thermal: Thermal = Thermal()
    efficiency: Efficiency = Efficiency()
    pipelines: Pipelines = Pipelines()


def json_schema() -> dict[str, object]:
    """The JSON Schema of the file (draft 2020-12)."""
    schema = msgspec.json.schema(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Ollama Compute Proxy", **schema}
