"""`ollama-proxy lab simulate`: routing policies compared over one workload, on emulated devices in virtual time."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from ollama_proxy.lab.simulation.report import Figures
    from ollama_proxy.lab.simulation.run import Setting
    from ollama_proxy.lab.simulation.traces import Row
    from ollama_proxy.lab.simulation.workload import Arrival, Run

_BOUND = "bound"
_DEFAULT_POLICIES = "static-documented,shortest-expected-delay,predictive"
_SYNTHETIC_REQUESTS = 1500
_BAR_WIDTH = 30

Progress = Callable[[int], None]


def read_rate(text: str) -> float:
    """Requests a minute; `5/min` says the same as `5`. Raises `BadParameter`."""
    try:
        rate = float(str(text).removesuffix("/min"))
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1e6:
        raise typer.BadParameter(f"{text!r} is no number of requests a minute between 0.001 and 1000000")
    return rate


def simulate(
    trace: Annotated[
        Path | None,
        typer.Option(help="CSV, plain or gzip: TIMESTAMP,ContextTokens,GeneratedTokens.", metavar="FILE"),
    ] = None,
    synthetic: Annotated[str | None, typer.Option(help="conv or code: a generated workload, no trace.")] = None,
    rate: Annotated[
        float, typer.Option(help="Requests a minute, in the mean.", parser=read_rate, metavar="R[/min]")
    ] = 5.0,
    requests: Annotated[
        int | None, typer.Option(help="How many requests; default: the whole slice, or 1,500 synthetic ones.", min=1)
    ] = None,
    part: Annotated[str, typer.Option("--slice", help="K/N: the K-th of N equal slices.", metavar="K/N")] = "1/1",
    policy: Annotated[str, typer.Option(help="Policies, with commas between; bound: the least possible.")] = (
        _DEFAULT_POLICIES
    ),
    mix: Annotated[str, typer.Option(help="What requests wish: default, balanced, or a YAML file.")] = "default",
    devices: Annotated[Path | None, typer.Option(help="YAML file of the emulated machine.", metavar="FILE")] = None,
    seed: Annotated[int, typer.Option(help="Seed of wishes, noise and synthetic workloads.")] = 1,
    cap: Annotated[
        float | None,
        typer.Option(
            help="Watts that the whole system may draw; predictive keeps it, the time above is counted.", min=0.1
        ),
    ] = None,
    bound_like: Annotated[
        str | None, typer.Option(help="Policy as good as which the bound has to be; default: the last one of --policy.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the report here.", metavar="OUT")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw joules against deadlines met.", metavar="OUT.svg")] = None,
) -> None:
    """Compare routing policies over one workload. All joules and seconds are the emulator's."""
    import msgspec

    from ollama_proxy.config.problems import ConfigError
    from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST, read_devices
    from ollama_proxy.lab.simulation.mix import apply_mix, find_mix
    from ollama_proxy.lab.simulation.plots import draw_plot
    from ollama_proxy.lab.simulation.report import Meta, Report, render_table
    from ollama_proxy.lab.simulation.run import Setting
    from ollama_proxy.lab.simulation.traces import TraceError, stretch_rows, take_slice

    names = _read_policies(policy)
    like = _choose_like(names, bound_like)
    for out in (json, plot):
        if out and not out.parent.is_dir():
            _fail(f"{out}: there is no folder {out.parent}")
    try:
        rows = _read_rows(trace, synthetic, requests, part, seed)
        arrivals = stretch_rows(take_slice(rows, *_read_part(part), requests), rate)
        arrivals = apply_mix(arrivals, find_mix(mix), seed)
        models, host = read_devices(devices) if devices else (DEFAULT_DEVICES, DEFAULT_HOST)
    except (TraceError, ConfigError) as error:
        _fail(str(error))
    setting = Setting(devices=models, host=host, seed=seed, cap_w=cap or 0.0)
    _check_cap(setting)
    figures = _run_all(names, like, arrivals, setting)
    meta = Meta(
        seed=seed,
        rate_per_min=rate,
        requests=len(arrivals),
        trace=trace.name if trace else f"synthetic:{synthetic}",
        slice=part,
        mix=mix,
        devices=tuple(one.name for one in models),
        versions=_find_versions(_BOUND in names),
        trace_sha256=hashlib.sha256(trace.read_bytes()).hexdigest() if trace else msgspec.UNSET,
        cap_w=cap if cap else msgspec.UNSET,
        bound_like=like if like and _BOUND in names else msgspec.UNSET,
    )
    report = Report(meta, figures)
    typer.echo(render_table(report))
    if json:
        _write(json, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if plot:
        _write(plot, draw_plot(report).encode())


def _fail(message: str) -> NoReturn:
    typer.echo(f"ollama-proxy lab simulate: {message}", err=True)
    raise typer.Exit(2)


# -- what is asked ---------------------------------------------------------------


def _read_policies(text: str) -> tuple[str, ...]:
    from ollama_proxy.routing.rules import POLICY_RULES

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known = (*POLICY_RULES, _BOUND)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        _fail(f"--policy: {', '.join(unknown) or 'nothing'} is none of {', '.join(known)}")
    return names


def _choose_like(names: Sequence[str], asked: str | None) -> str | None:
    policies = [name for name in names if name != _BOUND]
    if asked is not None and asked not in policies:
        _fail(f"--bound-like: {asked} is not among the policies of this run")
    return asked or (policies[-1] if policies else None)


def _read_part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        _fail(f"--slice: expected K/N like 1/3, not {text}")
    return int(match[1]), int(match[2])


def _check_cap(setting: Setting) -> None:
    from ollama_proxy.lab.simulation.run import choose_within

    if setting.cap_w and not choose_within(setting).active:
        base_w = sum(one.idle_w for one in setting.devices if not one.suspend_after_s)
        least = min(setting.devices, key=lambda one: one.decode_w)
        least_w = base_w + least.decode_w
        nearest = f"the least that allows one, {least.name}, is {least_w:g} W"
        _fail(f"--cap: no device may run within {setting.cap_w:g} W; {nearest}")


def _read_rows(trace: Path | None, synthetic: str | None, requests: int | None, part: str, seed: int) -> Sequence[Row]:
    """The rows to take a slice of. A synthetic workload is as long as it takes for N slices of so many requests."""
    from ollama_proxy.lab.simulation.synthetic import SHAPES, generate
    from ollama_proxy.lab.simulation.traces import Row, read_trace

    if (trace is None) == (synthetic is None):
        _fail("expected a workload: either --trace FILE or --synthetic conv|code")
    if trace is not None:
        return read_trace(trace)
    if synthetic not in SHAPES:
        _fail(f"--synthetic: {synthetic} is none of {', '.join(SHAPES)}")
    count = (requests or _SYNTHETIC_REQUESTS) * _read_part(part)[1]
    if count > 10_000_000:
        _fail("--requests times the slices is more than 10,000,000")
    generated = generate(synthetic, count, 60.0, seed)
    return [Row(one.id, round(one.at_s * 1e9), one.prompt_tokens, one.output_tokens) for one in generated]


# -- what is done ----------------------------------------------------------------


def _run_all(
    names: Sequence[str], like: str | None, arrivals: Sequence[Arrival], setting: Setting
) -> dict[str, Figures]:
    from ollama_proxy.lab.simulation.report import summarise_run
    from ollama_proxy.lab.simulation.run import run_policy

    runs: dict[str, Run] = {}
    for name in names:
        if name != _BOUND:
            show, clear = _open_bar(name, len(arrivals))
            runs[name] = run_policy(name, arrivals, setting, show)
            clear()
    found = {name: summarise_run(run, is_capped=True) for name, run in runs.items()}
    if _BOUND in names:
        found[_BOUND] = _find_bound(runs.get(like or ""), arrivals, setting)
    return {name: found[name] for name in names}


def _find_bound(run: Run | None, arrivals: Sequence[Arrival], setting: Setting) -> Figures:
    from ollama_proxy.lab.simulation.report import allow_like, summarise_bound
    from ollama_proxy.lab.simulation.timing import time_as_drawn

    try:
        from ollama_proxy.lab.simulation.bound import InfeasibleError, bound
    except ImportError:
        _fail("--policy bound needs a solver: pip install 'ollama-compute-proxy[simulate]'")
    show, clear = _open_bar(_BOUND, 1)
    show(0)
    targets_s, late_shares = allow_like(run) if run else ({}, {})
    try:
        drawn = time_as_drawn(setting.seed)
        found = bound(arrivals, setting.devices, targets_s, late_shares, setting.host, drawn)
        return summarise_bound(found, arrivals)
    except InfeasibleError as error:
        typer.echo(f"bound: no schedule meets the deadlines ({error})", err=True)
        return {}
    finally:
        clear()


def _open_bar(name: str, total: int) -> tuple[Progress, Callable[[], None]]:
    """A bar on standard error where that is a terminal: what to tell how much is done, and what to clear it with."""

    def show(done: int) -> None:
        filled = _BAR_WIDTH * done // total
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        typer.echo(f"\r{name:<24} [{bar}] {done}/{total}", err=True, nl=False)

    def clear() -> None:
        typer.echo("\r\033[K", err=True, nl=False)

    if sys.stderr.isatty():
        return show, clear
    return lambda _: None, lambda: None


def _find_versions(has_bound: bool) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    import ollama_proxy

    found = {"ollama-proxy": ollama_proxy.__version__, "python": platform.python_version()}
    if has_bound:
        with contextlib.suppress(PackageNotFoundError):
            found["highspy"] = version("highspy")
    return found


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        _fail(f"{path}: cannot be written: {error.strerror}")
