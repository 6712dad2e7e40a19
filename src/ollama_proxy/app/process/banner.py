"""What a person reads after the start: what was found, and where to go next."""

from __future__ import annotations

from ollama_proxy.domain.device import BackendView, FleetView

_MAX_MODELS = 4


def write_banner(
    view: FleetView, host: str, http_port: int, grpc_port: int, config_path: str, problem: str, *, tls: bool = False
) -> str:
    """The lines, plain text."""
    shown = f"[{host}]" if ":" in host else "localhost" if host in ("127.0.0.1", "localhost") else host
    scheme, plaintext = ("https", "") if tls else ("http", "-plaintext ")
    url, address = f"{scheme}://{shown}:{http_port}", f"{shown}:{grpc_port}"
    lines = [f"Ollama Compute Proxy  {url}  grpc {address}  (config {config_path})", ""]
    width = max((len(backend.id) for backend in view.backends), default=0)
    lines += [f"  {_mark(backend)} {backend.id:<{width}}  {_describe(backend)}" for backend in view.backends]
    if not any(backend.health.serves for backend in view.backends):
        lines.append("  No backend answers yet; each one joins by itself as soon as it does.")
    if problem:
        lines.append(f"  The embedded model is not there: {problem}")
    model = _first_model(view)
    lines += [
        "",
        "Try:",
        f"  curl {url}/health",
        f"""  curl {url}/api/generate -d '{{"model": "{model}", "prompt": "What is 2+2?"}}'""",
        f"""  grpcurl {plaintext}-d '{{"prompt": "What is 2+2?", "model": "{model}"}}' \\""",
        f"    {address} compute.v1.ComputeService/Generate",
        "Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


def _mark(backend: BackendView) -> str:
    return "+" if backend.health.serves else "-"


def _describe(backend: BackendView) -> str:
    if not backend.health.serves:
        return f"{backend.health.value}: {backend.message}"
    names = [facts.name for facts in (backend.models or {}).values()]
    models = ", ".join(names[:_MAX_MODELS]) + (
        f" and {len(names) - _MAX_MODELS} more" if len(names) > _MAX_MODELS else ""
    )
    notes = " (emulated)" if backend.emulated else ""
    if backend.spec.stand_in_model:
        notes = " (stands in for any model while no other backend has it)"
    return f"{backend.health.value}: {models or 'no models installed'}{notes}"


def _first_model(view: FleetView) -> str:
    for backend in view.backends:
        if backend.health.serves and backend.models and not backend.spec.stand_in_model:
            return next(iter(backend.models.values())).name
    return "qwen2.5:0.5b"
