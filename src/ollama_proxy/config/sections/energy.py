"""Meters, budgets and prices of energy, heat, and the modes of efficiency."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ollama_proxy.config.sections.section import Section

PerKwh = Annotated[float, Meta(ge=0, le=1e6)]


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


class Thermal(Section, frozen=True):
    enabled: bool = True


class Efficiency(Section, frozen=True):
    enabled: Annotated[
        bool,
        Meta(
            description="have modes; without them it is Balanced, at quiet hours too, and POST /efficiency is refused"
        ),
    ] = True
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
