"""The text endpoints of the HTTP port: health, backends, version, metrics, thermal, efficiency."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import ollama_proxy
from ollama_proxy.domain.caller import ANYBODY, Permission
from ollama_proxy.domain.device import BackendView, Calibration, FleetView, Health
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.metering import MeterStatus
from ollama_proxy.domain.ports import Control
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable

_MAX_BODY_BYTES = 4096


class Page(Route):
    """A page and what a key must be allowed to do to see it."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        permission: Permission,
        method: str = "GET",
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.permission = permission


def build_status_app(control: Control) -> Starlette:
    """The ASGI application of these pages; every other path answers 404."""
    pages = _Pages(control)
    routes = [
        Page("/health", pages.health, "key"),
        Page("/backends", pages.backends, "key"),
        Page("/healthz", pages.healthz, "open"),
        Page("/readyz", pages.readyz, "open"),
        Page("/version", pages.version, "key"),
        Page("/metrics", pages.metrics, "key"),
        Page("/thermal", pages.thermal, "key"),
        Page("/proxy/queue", pages.queue, "admin"),
        Page("/proxy/ledger", pages.ledger, "admin"),
        Page("/proxy/calibration", pages.calibration, "key"),
        Page("/proxy/reload", pages.reload, "admin", "POST"),
        Page("/efficiency", pages.efficiency, "key"),
        Page("/efficiency", pages.set_efficiency, "admin", "POST"),
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed})


async def _not_found(request: Request, error: Exception) -> Response:
    return Response("404 page not found", 404, {"content-type": "text/plain"})


async def _not_allowed(request: Request, error: Exception) -> Response:
    allow = getattr(error, "headers", None) or {}
    return Response("405 method not allowed", 405, {"content-type": "text/plain", **allow})


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document) + b"\n", status, media_type="application/json")


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


class _Pages:
    def __init__(self, control: Control) -> None:
        self._control = control

    async def health(self, request: Request) -> Response:
        view = self._see(request)
        word = sum_up(view)
        status = 503 if word == "unhealthy" else 200
        if _wants_json(request):
            states = {backend.id: health_word(backend) for backend in view.backends}
            return _json({"status": word, "backends": states}, status)
        lines = [f"Status: {word}", *(f"  {backend.id}: {health_word(backend)}" for backend in view.backends)]
        return PlainTextResponse("\n".join(lines) + "\n", status)

    def _see(self, request: Request) -> FleetView:
        """The fleet as far as it is there for whoever asks."""
        caller = request.scope.get("caller", ANYBODY)
        view: FleetView = caller.see(self._control.fleet())
        return view

    async def backends(self, request: Request) -> Response:
        view = self._see(request)
        meters = self._control.meters()
        if _wants_json(request):
            described = [describe_backend(backend, meters) for backend in view.backends]
            return _json({"backends": described, "differing_models": find_differing(view)})
        blocks = [_backend_block(backend, meters) for backend in view.backends]
        blocks += [_differing_line(name, digests) for name, digests in find_differing(view).items()]
        return PlainTextResponse("Available Backends:\n\n" + "".join(blocks))

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        if self._control.is_leaving:
            return PlainTextResponse("not ready: stopping\n", 503)
        view = self._control.fleet()
        serving = sum(backend.health.serves for backend in view.backends)
        counts = f"{serving}/{len(view.backends)} backends healthy\n"
        return PlainTextResponse("ready: " + counts if serving else "not ready: " + counts, 200 if serving else 503)

    async def version(self, request: Request) -> Response:
        return _json(
            {
                "version": ollama_proxy.__version__,
                "git_commit": os.environ.get("OLLAMA_PROXY_GIT_COMMIT", "unknown"),
                "build_time": os.environ.get("OLLAMA_PROXY_BUILD_TIME", "unknown"),
            }
        )

    async def metrics(self, request: Request) -> Response:
        caller = request.scope.get("caller", ANYBODY)
        if not caller.sees_all:
            message = f"the key {caller.name} is for some models or backends; metrics tell of all"
            return _json({"error": message}, ErrorKind.PERMISSION_DENIED.http_status)
        body, content_type = self._control.metrics()
        return Response(body, headers={"content-type": content_type})

    async def thermal(self, request: Request) -> Response:
        return _json(await self._control.thermal())

    async def queue(self, request: Request) -> Response:
        waiting = self._control.queue()
        return _json({"waiting": len(waiting), "requests": waiting})

    async def ledger(self, request: Request) -> Response:
        asked = request.query_params
        try:
            found = await self._control.ledger(
                asked.get("by", "model"),
                asked.get("since", "7d"),
                asked.get("until", ""),
                asked.get("accounting", "marginal"),
            )
        except ProxyError as error:
            return _json({"error": error.message}, error.kind.http_status)
        return _json(found)

    async def calibration(self, request: Request) -> Response:
        there = {backend.id for backend in self._see(request).backends}
        found = self._control.calibrations().items()
        return _json({"backends": {name: describe_calibration(one) for name, one in found if name in there}})

    async def reload(self, request: Request) -> Response:
        try:
            changed = await self._control.reload()
        except ProxyError as error:
            return _json({"error": error.message}, error.kind.http_status)
        return _json({"changed": changed})

    async def efficiency(self, request: Request) -> Response:
        current, effective, description = self._control.mode()
        return _json({"current_mode": current, "effective_mode": effective, "description": description})

    async def set_efficiency(self, request: Request) -> Response:
        try:
            self._control.set_mode(_read_mode(await request.body()))
        except ProxyError as error:
            return _json({"error": error.message}, error.kind.http_status)
        return await self.efficiency(request)


def _read_mode(body: bytes) -> str:
    """The mode in a body: `{"mode": "Quiet"}` or the bare word."""
    if len(body) > _MAX_BODY_BYTES:
        raise ProxyError(ErrorKind.TOO_LARGE, f"the body is larger than {_MAX_BODY_BYTES} bytes")
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith(("{", '"')):
        return text
    try:
        document = msgspec.json.decode(text)
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {tell_unreadable(error)}") from None
    mode = document.get("mode") if isinstance(document, dict) else document
    if not isinstance(mode, str):
        raise ProxyError(ErrorKind.INVALID_REQUEST, 'expected {"mode": "<name>"}')
    return mode


def sum_up(view: FleetView) -> str:
    """`healthy`, `degraded` (some backend is not) or `unhealthy` (none is)."""
    serving = [backend for backend in view.backends if backend.health.serves]
    if not serving:
        return "unhealthy"
    return "healthy" if len(serving) == len(view.backends) else "degraded"


def health_word(backend: BackendView) -> str:
    """`healthy` or `unhealthy`: a degraded backend still serves."""
    return "healthy" if backend.health.serves else "unhealthy"


def find_differing(view: FleetView) -> dict[str, dict[str, str]]:
    """Models that are not the same on all serving backends: by name, the digest on each that tells one."""
    found: dict[str, dict[str, str]] = {}
    for backend in view.backends:
        if backend.health.serves:
            for name, facts in (backend.models or {}).items():
                if facts.digest:
                    found.setdefault(name, {})[backend.id] = facts.digest
    return {name: digests for name, digests in found.items() if len(set(digests.values())) > 1}


def _differing_line(name: str, digests: dict[str, str]) -> str:
    told = ", ".join(f"{digest.removeprefix('sha256:')[:12]} on {backend}" for backend, digest in digests.items())
    return f"Differing Model: {name}: {told}\n"


def _backend_block(backend: BackendView, meters: Sequence[MeterStatus]) -> str:
    spec = backend.spec
    latency_ms = round(backend.avg_latency_ms or spec.avg_latency_ms)
    lines = [
        f"ID: {spec.id}",
        f"  Name: {spec.name}",
        f"  Hardware: {spec.hardware}",
        f"  Status: {health_word(backend)}",
        f"  Power: {spec.power_watts:.1f}W",
        f"  Avg Latency: {latency_ms}ms",
        f"  Power Kind: {backend.watts_kind}",
        f"  Latency Kind: {'measured' if backend.avg_latency_ms else 'configured'}",
    ]
    if backend.emulated:
        lines.append("  Device: emulated (lab)")
    if spec.stand_in_model:
        lines.append(f"  Stand-In: answers any model name with {spec.stand_in_model}")
    if backend.health is not Health.HEALTHY and backend.message:
        lines.append(f"  Reason: {backend.message}")
    lines += [f"  Kept Out: {model}: {kept.why}" for model, kept in sorted(backend.kept_out.items())]
    lines += [
        f"  Models: {', '.join(facts.name for facts in (backend.models or {}).values()) or '-'}",
        f"  Loaded: {', '.join(sorted(backend.loaded)) or '-'}",
        f"  In Flight: {backend.in_flight}",
        f"  Requests Last Minute: {backend.requests_per_minute}",
        f"  Error Rate: {backend.error_rate:.3f}",
    ]
    lines += [
        f"  Learned: {name} {rates.overhead_s * 1000:.0f}ms to first token, {rates.prefill_tps:.0f} prompt tok/s, "
        f"{rates.decode_tps:.1f} tok/s, n={rates.samples}"
        for name, rates in sorted(backend.rates.items())
    ]
    lines += [f"  Meter: {_describe_meter(one)}" for one in meters if backend.id in one.backends]
    lines += [
        f"  Learned Energy: {name} {rates.fixed_j:.3g} J/request, {rates.prefill_j:.3g} J/prompt tok, "
        f"{rates.decode_j:.3g} J/tok"
        for name, rates in sorted(backend.rates.items())
        if rates.fixed_j is not None
    ]
    return "\n".join(lines) + "\n\n"


def _describe_meter(meter: MeterStatus) -> str:
    watts = "power not known" if meter.watts is None else f"{meter.watts:.1f}W"
    return f"{meter.source} ({meter.kind}, {watts}{', stale' if meter.stale else ''})"


def describe_calibration(one: Calibration) -> dict[str, Any]:
    """How predictions of a backend came true; what is not known is absent."""
    errors = {"ttft_error": one.ttft_error, "e2e_error": one.e2e_error}
    return {
        "requests": one.requests,
        **{name: round(error, 4) for name, error in errors.items() if error is not None},
        "promises": [
            {"promised": round(two.promised, 3), "kept": round(two.kept, 3), "requests": two.requests}
            for two in one.promises
        ],
    }


def describe_backend(backend: BackendView, meters: Sequence[MeterStatus] = ()) -> dict[str, Any]:
    """One backend in JSON, units in the keys; what is not known is absent."""
    spec = backend.spec
    found = {
        "id": spec.id,
        "type": spec.kind,
        "name": spec.name,
        "hardware": spec.hardware,
        "status": health_word(backend),
        "state": backend.health.value,
        "message": backend.message,
        "power_watts": spec.power_watts,
        "power_kind": backend.watts_kind,
        "avg_latency_ms": round(backend.avg_latency_ms or spec.avg_latency_ms),
        "latency_kind": "measured" if backend.avg_latency_ms else "configured",
        "emulated": backend.emulated,
        "models": None if backend.models is None else [facts.name for facts in backend.models.values()],
        "loaded_models": sorted(backend.loaded),
        "in_flight": backend.in_flight,
        "kept_out": {
            model: {"most_at_once": kept.most, "why": kept.why, "wait_seconds": round(kept.wait_s, 1)}
            for model, kept in sorted(backend.kept_out.items())
        },
        "requests_per_minute": backend.requests_per_minute,
        "error_rate": round(backend.error_rate, 4),
        "last_check_unix_s": backend.checked_unix_s or None,
        "stand_in_model": spec.stand_in_model or None,
        "meters": [
            {"source": one.source, "kind": one.kind, "watts": one.watts, "stale": one.stale}
            for one in meters
            if backend.id in one.backends
        ]
        or None,
        "learned": {
            name: {
                "overhead_s": rates.overhead_s,
                "prefill_tokens_per_second": rates.prefill_tps,
                "decode_tokens_per_second": rates.decode_tps,
                **({} if rates.load_s is None else {"load_s": rates.load_s}),
                **({} if rates.parallel_exponent is None else {"parallel_exponent": rates.parallel_exponent}),
                **(
                    {}
                    if rates.fixed_j is None
                    else {
                        "request_joules": rates.fixed_j,
                        "prompt_token_joules": rates.prefill_j,
                        "output_token_joules": rates.decode_j,
                    }
                ),
                "samples": rates.samples,
            }
            for name, rates in backend.rates.items()
        },
    }
    return {name: value for name, value in found.items() if value is not None}
