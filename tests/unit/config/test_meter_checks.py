"""Faults in the section `meters`, each told at its place."""

from __future__ import annotations

import pytest

from ollama_proxy.config.checks import check_config
from ollama_proxy.config.load import parse_config
from ollama_proxy.config.problems import ConfigError

HEAD = "backends: [{id: gpu, endpoint: x}]\nmeters: {sources: ["


def places(source: str, environ: dict[str, str] | None = None) -> list[str]:
    config, _ = parse_config(f"{HEAD}{source}]}}", "c.yaml")
    return [problem.where.removeprefix("meters.sources[0]") for problem in check_config(config, environ or {})]


@pytest.mark.parametrize(
    "source",
    [
        "{id: rapl, type: powercap, devices: [package-0], backends: [gpu]}",
        "{id: plug, type: http, url: 'http://plug', preset: shelly-gen2}",
        "{id: plug, type: http, url: 'http://plug:8080/x?y=1', pointer: /a, unit: mW, backends: [gpu], emulated: true}",
        "{id: plug, type: http, url: 'http://ha:8123/api/states/sensor.x', preset: home-assistant}",
        "{id: own, type: command, command: [/usr/bin/watts, --now], unit: W}",
    ],
)
def test_what_is_right_has_no_problem(source: str) -> None:
    assert places(source) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{id: a, type: powercap, backends: [cpu]}", [".backends"]),
        ("{id: a, type: powercap, url: 'http://x', unit: W}", [".url", ".unit"]),
        ("{id: a, type: http, url: 'http://x', preset: tasmota, devices: [x]}", [".devices"]),
        ("{id: a, type: http, preset: tasmota}", [".url"]),
        ("{id: a, type: http, url: 'ftp://x', preset: tasmota}", [".url"]),
        ("{id: a, type: http, url: 'http://x:99999', preset: tasmota}", [".url"]),
        ("{id: a, type: http, url: 'http://u:p@x', preset: tasmota}", [".url"]),
        ("{id: a, type: http, url: 'http://ha', preset: home-assistant}", [".url"]),
        ("{id: a, type: http, url: 'http://x'}", [""]),
        ("{id: a, type: http, url: 'http://x', preset: tasmota, unit: W}", [".preset"]),
        ("{id: a, type: http, url: 'http://x', pointer: power, unit: W}", [".pointer"]),
        ("{id: a, type: http, url: 'http://x', preset: tasmota, token_env: abc}", [".token_env"]),
        ("{id: a, type: http, url: 'http://x', preset: tasmota, token_env: ABC}", [".token_env"]),
        ("{id: a, type: command}", [""]),
        ("{id: a, type: command, command: [x]}", [""]),
    ],
)
def test_what_is_wrong_is_told_at_its_place(source: str, expected: list[str]) -> None:
    assert places(source) == expected


def test_a_token_comes_from_a_variable_that_is_set() -> None:
    source = "{id: a, type: http, url: 'http://x', preset: tasmota, token_env: ABC}"
    assert places(source, {"ABC": "secret"}) == []
    assert places(source, {"ABC": "secret\n"}) == []
    assert places(source, {"ABC": " \n"}) == [".token_env"]
    assert places(source, {"ABC": "secret\nX: y"}) == [".token_env"]


def test_an_id_is_given_once() -> None:
    assert places("{id: a, type: npu}, {id: a, type: nvml}") == ["meters.sources[1].id"]


def test_unknown_types_and_keys_are_told_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"meters.sources\[0\].type: 'rapl' is none of powercap, hwmon"):
        places("{id: a, type: rapl}")
    with pytest.raises(ConfigError, match='did you mean "backends"'):
        places("{id: a, type: npu, backend: [gpu]}")
