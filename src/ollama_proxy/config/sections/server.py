"""Where the proxy listens, and what it takes from clients."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ollama_proxy.config.sections.keys import Auth, RateLimit
from ollama_proxy.config.sections.section import Section
from ollama_proxy.config.sections.slow_readers import SlowReaders

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes any free one")]
#: As Ollama's own list has them; one `*` stands for anything.
Origin = Annotated[str, Meta(pattern=r"^(\*|[^*]*\*[^*]*|[a-z][a-z0-9+.-]*://[^*]+)(?![\s\S])")]


class Tls(Section, frozen=True):
    enabled: bool = False
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""


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
