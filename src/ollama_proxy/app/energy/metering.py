"""From the section `meters` to meters, and from backends to the sources that measure them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ollama_proxy.app.upstreams.registry import METERS, load_kind
from ollama_proxy.config.checks import is_loopback
from ollama_proxy.config.endpoint import EndpointError, parse_endpoint
from ollama_proxy.config.schema import Backend, Meters, MeterSource
from ollama_proxy.domain.metering import Domain, Meter, MeterOptions, Source

#: Read without being asked to, unless the file configures this type itself.
_DISCOVERED = ("powercap", "hwmon", "nvml", "npu", "supply")
#: Of several sources for one device, the nearest to it. A whole machine is no meter of one of its devices.
_NEAREST: tuple[Domain, ...] = ("card", "gpu", "graphics", "package", "apu")


def build_meters(section: Meters, environ: Mapping[str, str], root: Path = Path("/")) -> tuple[Meter, ...]:
    """Every meter of this machine and every configured one; they are not asked anything yet."""
    if section.enabled == "never":
        return ()
    configured = {source.type for source in section.sources}
    found = [load_kind(METERS, name)(root) for name in _DISCOVERED if name not in configured]
    found += [load_kind(METERS, one.type)(root, read_options(one, environ)) for one in section.sources]
    return tuple(found)


def read_options(source: MeterSource, environ: Mapping[str, str]) -> MeterOptions:
    """The options of one configured meter; the secret comes from its variable."""
    return MeterOptions(
        id=source.id,
        backends=source.backends,
        devices=source.devices,
        url=source.url,
        preset=source.preset,
        pointer=source.pointer,
        unit=source.unit,
        token=environ.get(source.token_env, "").strip() if source.token_env else "",
        command=source.command,
        timeout_s=source.timeout_seconds,
        interval_s=source.interval_seconds,
        max_watts=source.max_watts,
        emulated=source.emulated,
    )


def find_sources(backend: Backend, sources: Iterable[Source]) -> tuple[Source, ...]:
    """The sources of energy whose sum measures a backend's device; empty when there is none.

    Those that name the backend come first. Without them, what is found on this machine measures backends on this
    machine only, by their hardware: all packages of a board, all cards that a server may spread over. Several backends
    may share a source: an NPU, integrated graphics and cores share a package.
    """
    readable = [one for one in sources if one.readable and one.domain != "npu_busy"]
    named = [one for one in readable if backend.id in one.backends]
    if named:
        ids = {one.id for one in named}
        return tuple(one for one in named if one.inside not in ids)
    if not is_local(backend):
        return ()
    near = [one for one in readable if not one.backends and backend.hardware in one.hardware and one.domain in _NEAREST]
    nearest = min((_NEAREST.index(one.domain) for one in near), default=0)
    return tuple(one for one in near if one.domain == _NEAREST[nearest])


def find_busy_source(backend: Backend, sources: Iterable[Source]) -> Source | None:
    """The source of busy time of a backend's NPU."""
    for source in sources:
        if source.readable and source.domain == "npu_busy":
            named = backend.id in source.backends
            if named or (not source.backends and backend.hardware == "npu" and is_local(backend)):
                return source
    return None


def is_local(backend: Backend) -> bool:
    """Whether a backend's server runs on this machine."""
    try:
        return is_loopback(parse_endpoint(backend.endpoint).host)
    except EndpointError:
        return False
