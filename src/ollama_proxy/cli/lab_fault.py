"""`ollama-proxy lab fault`: a fault of an emulated device, or a proxy for bytes that goes wrong on command."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from ollama_proxy.cli.running_lab import CONTROL_PORT, ask_lab, fail

if TYPE_CHECKING:
    from ollama_proxy.lab.wire_fault import WireFault

_WIRE_CONTROL_PORT = 11401
_DEVICE_CHUNKS = 3
_DEVICE, _WIRE = "An emulated device", "A proxy for bytes (--listen, --upstream)"


def fault(
    device: Annotated[str, typer.Argument(help="npu, igpu, nvidia or cpu; none with --listen.")] = "",
    kind: Annotated[
        str, typer.Argument(help="none, refuse, reset, stall, cut, status, slow, garbage or too_long.")
    ] = "",
    after_chunks: Annotated[
        int | None, typer.Option(help="Pieces that still get through: 3 for a device's cut, else 0.", min=0)
    ] = None,
    status: Annotated[int, typer.Option(help="status: the HTTP status.", rich_help_panel=_DEVICE)] = 503,
    factor: Annotated[float, typer.Option(help="slow: how many times slower.", rich_help_panel=_DEVICE)] = 10.0,
    times: Annotated[int, typer.Option(help="Requests to hit; 0 = all.", rich_help_panel=_DEVICE)] = 0,
    control_port: Annotated[
        int | None, typer.Option(help=f"The lab's ({CONTROL_PORT}), or the proxy's own ({_WIRE_CONTROL_PORT}).")
    ] = None,
    listen: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes any free one.", rich_help_panel=_WIRE)
    ] = None,
    upstream: Annotated[str, typer.Option(help="HOST:PORT to dial.", rich_help_panel=_WIRE)] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=_WIRE)] = "127.0.0.1",
    direction: Annotated[str, typer.Option(help="both, up (from the client) or down.", rich_help_panel=_WIRE)] = "both",
    latency_ms: Annotated[float, typer.Option(help="Added to each piece.", rich_help_panel=_WIRE)] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Added besides, at most.", rich_help_panel=_WIRE)] = 0.0,
    slice_bytes: Annotated[int, typer.Option(help="Longest piece; 0 = as it came.", rich_help_panel=_WIRE)] = 0,
    slice_pause_ms: Annotated[float, typer.Option(help="Between such pieces.", rich_help_panel=_WIRE)] = 0.0,
    corrupt: Annotated[float, typer.Option(help="Chance of a bit turned in a piece.", rich_help_panel=_WIRE)] = 0.0,
    end: Annotated[
        str, typer.Option(help="none, refuse, hang, stall, reset, close or half_close.", rich_help_panel=_WIRE)
    ] = "none",
    after_bytes: Annotated[int, typer.Option(help="Bytes before the end.", rich_help_panel=_WIRE)] = 0,
    share: Annotated[float, typer.Option(help="Share of connections hit.", rich_help_panel=_WIRE)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of jitter, shares and bits.", rich_help_panel=_WIRE)] = 1,
) -> None:
    """Switch a fault of an emulated device on or off, or run a proxy for bytes with faults of its own."""
    if listen is None and not upstream:
        if not device or not kind:
            fail("name a device and a fault, or give --listen PORT and --upstream HOST:PORT")
        chunks = _DEVICE_CHUNKS if after_chunks is None else after_chunks
        wanted = {"fault": kind, "after_chunks": chunks, "status": status, "factor": factor, "times": times}
        path = f"/lab/devices/{device}/faults"
        typer.echo(ask_lab(CONTROL_PORT if control_port is None else control_port, path, json.dumps(wanted).encode()))
        return
    if listen is None or not upstream or device:
        fail("--listen PORT and --upstream HOST:PORT go together, and without a device")
    from ollama_proxy.domain.errors import ProxyError
    from ollama_proxy.lab.wire_fault import read_wire_fault

    fields = {
        "direction": direction,
        "latency_ms": latency_ms,
        "jitter_ms": jitter_ms,
        "slice_bytes": slice_bytes,
        "slice_pause_ms": slice_pause_ms,
        "corrupt": corrupt,
        "end": end,
        "after_bytes": after_bytes,
        "after_chunks": after_chunks or 0,
        "share": share,
    }
    try:
        first = read_wire_fault(json.dumps(fields).encode())
    except ProxyError as error:
        fail(error.message)
    import uvloop

    control = _WIRE_CONTROL_PORT if control_port is None else control_port
    raise typer.Exit(uvloop.run(_run(host, listen, control, _read_address(upstream), seed, first)))


def _read_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65535:
        fail(f"--upstream: expected HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


async def _run(host: str, port: int, control_port: int, upstream: tuple[str, int], seed: int, first: WireFault) -> int:
    from ollama_proxy.lab.fault_proxy import FaultProxy

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxy = FaultProxy(upstream, seed)
    try:
        await proxy.start(host, port, control_port)
        await proxy.set_fault(first)
        typer.echo(_describe(proxy, host), err=True)
        await stop.wait()
    except OSError as error:
        typer.echo(f"ollama-proxy lab: cannot listen: {error.strerror}; choose another port", err=True)
        return 2
    finally:
        await proxy.stop()
    return 0


def _describe(proxy: object, host: str) -> str:
    from ollama_proxy.lab.fault_proxy import FaultProxy

    assert isinstance(proxy, FaultProxy)
    control = f"http://{host}:{proxy.control_port}/fault"
    return "\n".join(
        [
            f"Fault proxy up: {host}:{proxy.port} to {proxy.upstream[0]}:{proxy.upstream[1]}, seed {proxy.seed}.",
            "Switch faults while it runs; they strike open connections, too:",
            f'  curl {control} -d \'{{"direction": "down", "latency_ms": 50}}\'',
            f'  curl {control} -d \'{{"end": "reset", "after_bytes": 1000}}\'',
            f"  curl {control} -X DELETE",
            "Stop with Ctrl-C.",
        ]
    )
