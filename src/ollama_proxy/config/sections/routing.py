"""How requests are decided, tried again and queued."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section


class Routing(Section, frozen=True):
    default_backend: Annotated[str, Meta(description="of equal cost this one; and where models.placement is first")] = (
        ""
    )
    power_aware: Annotated[bool, Meta(description="of equal cost the lower draw first")] = True
    auto_optimize_latency: Annotated[bool, Meta(description="of equal cost the sooner first token first")] = True
    fallback_strategy: Annotated[Literal["next_best", "none"], Meta(description="none: a request is tried once")] = (
        "next_best"
    )
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
    preemption: Annotated[
        Literal["off", "best-effort"],
        Meta(
            description="break off a request of priority `best-effort` where one that is `critical`, or "
            "latency_critical, wants its slot; it goes on behind what was sent when there is a slot again, and makes "
            "way three times at most"
        ),
    ] = "best-effort"
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
            description="requests that may wait for a slot; when full, a more urgent one takes the last one's place, "
            "or one of a key with fewer there that of the key with the most",
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
