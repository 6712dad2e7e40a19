"""The process itself: its ways in and out, probes, logs and metrics, and what it remembers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Seconds, Section


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


class Health(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="probe backends that serve; the others are probed anyhow")] = True
    interval_seconds: Seconds = 30
    timeout_seconds: Seconds = 5
    unhealthy_threshold: Annotated[int, Meta(ge=1)] = 3


class Monitoring(Section, frozen=True):
    enabled: Annotated[bool, Meta(description="the port of its own for metrics; `/metrics` on the HTTP port stays")] = (
        True
    )
    prometheus_port: Annotated[int, Meta(ge=0, le=65535, description="0 = on the HTTP port only")] = 9090
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    trace_requests: Annotated[bool, Meta(description="a log line for each request")] = True


class Learning(Section, frozen=True):
    """What traffic teaches of speeds and lengths of answers, kept over restarts."""

    keep: Annotated[bool, Meta(description="write it down once a minute and at the end")] = True
    path: Annotated[
        str, Meta(description="JSON file; empty takes ollama-proxy/learned.json in XDG_STATE_HOME or ~/.local/state")
    ] = ""
