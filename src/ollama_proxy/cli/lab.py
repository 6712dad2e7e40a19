"""`ollama-proxy lab`: a fleet to try on."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Annotated

import typer

from ollama_proxy.cli import lab_fault, lab_load, simulate
from ollama_proxy.cli.running_lab import CONTROL_PORT, ask_lab, fail

app = typer.Typer(help="An emulated fleet to try on, with faults to switch on.", no_args_is_help=True)
app.command("simulate")(simulate.simulate)
app.command("fault")(lab_fault.fault)
app.command("load")(lab_load.load)


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ports: Annotated[str, typer.Option(help="One port a device; 0 takes any free one.")] = "11434,11435,11436,11437",
    devices: Annotated[str, typer.Option(help="Which devices, in the order of the ports.")] = "npu,igpu,nvidia,cpu",
    text: Annotated[
        str, typer.Option(help="real (from the embedded model), synthetic, or auto: real when that model is installed.")
    ] = "auto",
    speed: Annotated[float, typer.Option(help="How many times faster than life.", min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic text.")] = 1,
    slots: Annotated[int, typer.Option(help="Requests that a device runs at once, each as fast as alone.", min=1)] = 1,
    control_port: Annotated[int, typer.Option(help="Port that switches faults.")] = CONTROL_PORT,
) -> None:
    """Start emulated Ollama servers and keep them up until Ctrl-C."""
    import uvloop

    from ollama_proxy.lab.device import DEVICES

    names = tuple(name.strip() for name in devices.split(","))
    numbers = tuple(int(port) if port.strip().isdigit() else -1 for port in ports.split(","))
    unknown = [name for name in names if name not in DEVICES]
    if unknown or len(set(names)) != len(names):
        fail(f"--devices: expected some of {', '.join(DEVICES)}, each once")
    if len(numbers) != len(names) or any(not 0 <= port <= 65535 for port in numbers):
        fail(f"--ports: expected {len(names)} port numbers, one a device")
    if text not in ("auto", "real", "synthetic"):
        fail("--text: expected auto, real or synthetic")
    raise typer.Exit(uvloop.run(_run(host, numbers, names, text, speed, seed, slots, control_port)))


async def _run(
    host: str,
    ports: tuple[int, ...],
    names: tuple[str, ...],
    text: str,
    speed: float,
    seed: int,
    slots: int,
    control_port: int,
) -> int:
    from ollama_proxy.lab.fleet import Lab
    from ollama_proxy.lab.source import close_source, open_source

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    source, supervisor, problem = await open_source(text, seed)
    if problem and text == "real":
        typer.echo(f"ollama-proxy lab: no real text: {problem}", err=True)
        return 2
    lab = Lab(names, source, speed, slots)
    try:
        bound = await lab.start(host, ports, control_port)
        kind = "real, from the embedded model" if supervisor is not None else f"synthetic, seed {seed}"
        typer.echo(_describe(bound, lab.control_port, host, kind, speed), err=True)
        await stop.wait()
    except OSError as error:
        typer.echo(f"ollama-proxy lab: {error.strerror}; stop the other program or choose other --ports", err=True)
        return 2
    finally:
        await lab.stop()
        await close_source(supervisor)
    return 0


def _describe(bound: dict[str, int], control_port: int, host: str, text: str, speed: float) -> str:
    from ollama_proxy.lab.device import DEVICES

    lines = [f"Emulated fleet up: nothing here is measured; text is {text}, time runs {speed:g} times as fast.", ""]
    for name, port in bound.items():
        device = DEVICES[name]
        facts = f"{device.watts:g} W, first token {device.first_token_s * 1000:.0f} ms, {device.decode_tps:g} tok/s"
        lines.append(f"  {name:<7} http://{host}:{port}  {facts}, {', '.join(device.models)}")
    last = "nvidia" if "nvidia" in bound else next(iter(bound))
    port_flag = "" if control_port == CONTROL_PORT else f" --control-port {control_port}"
    lines += [
        "",
        "Next: ./bin/ollama-proxy in another terminal. Switch a fault on, look, and switch it off:",
        f"  ./bin/ollama-proxy lab fault {last} stall{port_flag}",
        f"  ./bin/ollama-proxy lab status{port_flag}",
        f"  ./bin/ollama-proxy lab fault {last} none{port_flag}",
        f"  (or POST to http://{host}:{control_port}/lab/devices/{last}/faults)",
        "Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


@app.command()
def status(control_port: Annotated[int, typer.Option(help="The lab's control port.")] = CONTROL_PORT) -> None:
    """Show the emulated devices."""
    for one in json.loads(ask_lab(control_port, "/lab/devices"))["devices"]:
        facts = f"fault {one['fault']}, {one['requests']} requests, {one['cancelled']} cancelled, {one['joules']:.1f} J"
        typer.echo(f"{one['device']:<7} port {one['port']}  {facts} (emulated)")
