"""Plugs over HTTP, in the shapes that they have, from a server that answers them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_proxy.domain.metering import MeterOptions
from ollama_proxy.energy.meters.http import HttpMeter, MeterAnswerError, as_number, complete_url, find_value

SHELLY_1 = {"power": 34.5, "overpower": 0.0, "is_valid": True, "timestamp": 1, "counters": [1.0], "total": 12345}
SHELLY_2 = {"id": 0, "output": True, "apower": 41.2, "voltage": 231.1, "aenergy": {"total": 9492.468}}
TASMOTA = {"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Total": 3.705, "Power": 5, "Voltage": 233}}}
TASMOTA_STRIP = {"StatusSNS": {"ENERGY": {"Total": 3.705, "Power": [5, 7.5]}}}
ASSISTANT = {"entity_id": "sensor.plug_power", "state": "61.7", "attributes": {"unit_of_measurement": "W"}}


def make(server: HTTPServer, path: str = "", **options: Any) -> HttpMeter:
    return HttpMeter(options=MeterOptions(id="plug", url=server.url_for(path), **options))


@pytest.mark.parametrize(
    ("preset", "path", "query", "document", "watts"),
    [
        ("shelly-gen1", "/meter/0", "", SHELLY_1, 34.5),
        ("shelly-gen2", "/rpc/Switch.GetStatus", "id=0", SHELLY_2, 41.2),
        ("tasmota", "/cm", "cmnd=Status%208", TASMOTA, 5.0),
        ("tasmota", "/cm", "cmnd=Status%208", TASMOTA_STRIP, 12.5),
    ],
)
def test_presets_know_where_the_figure_is(
    httpserver: HTTPServer, preset: str, path: str, query: str, document: Any, watts: float
) -> None:
    httpserver.expect_request(path, query_string=query).respond_with_json(document)
    (reading,) = make(httpserver, preset=preset).read(7.0)
    assert (reading.source, reading.watts, reading.at_s, reading.kind) == ("plug", watts, 7.0, "measured")


@pytest.mark.parametrize(
    ("state", "unit", "watts", "joules"),
    [("61.7", "W", 61.7, None), ("0.05", "kW", 50.0, None), ("2", "kWh", None, 7.2e6), ("30", "Wh", None, 108_000.0)],
)
def test_home_assistant_tells_its_unit_and_wants_its_token(
    httpserver: HTTPServer, state: str, unit: str, watts: float | None, joules: float | None
) -> None:
    document = {"state": state, "attributes": {"unit_of_measurement": unit}}
    httpserver.expect_request(
        "/api/states/sensor.plug_power", headers={"Authorization": "Bearer secret"}
    ).respond_with_json(document)
    meter = make(httpserver, "/api/states/sensor.plug_power", preset="home-assistant", token="secret")
    (reading,) = meter.read(1.0)
    assert (reading.watts, reading.joules) == (watts, joules)


@pytest.mark.parametrize("state", ["unavailable", "unknown", "", "nan", "inf"])
def test_a_sensor_without_a_state_is_no_figure(httpserver: HTTPServer, state: str) -> None:
    httpserver.expect_request("/x").respond_with_json({**ASSISTANT, "state": state})
    with pytest.raises(MeterAnswerError, match="number"):
        make(httpserver, "/x", preset="home-assistant").read(1.0)


def test_a_unit_of_something_else_is_refused(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/x").respond_with_json({"state": "20", "attributes": {"unit_of_measurement": "°C"}})
    with pytest.raises(MeterAnswerError, match="unit"):
        make(httpserver, "/x", preset="home-assistant").read(1.0)


def test_a_pointer_and_a_unit_serve_for_the_rest(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/any").respond_with_json({"a/b": [{"mW": 2500}]})
    (reading,) = make(httpserver, "/any", pointer="/a~1b/0/mW", unit="mW", emulated=True).read(1.0)
    assert (reading.watts, reading.kind) == (2.5, "emulated")


def test_what_feeds_in_tells_no_draw(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/any").respond_with_json({"w": -300})
    assert make(httpserver, "/any", pointer="/w", unit="W").read(1.0) == ()


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response("no", 503), "status 503"),
        (Response("", 302, {"Location": "/elsewhere"}), "status 302"),
        (Response("<html>"), "not JSON"),
        (Response("[" * 100_000), "not JSON"),
        (Response(b"1" * 300_000), "larger"),
        (Response("{}"), "nothing at /w"),
        (Response('{"w": true}'), "not a number"),
        (Response('{"w": []}'), "not a number"),
    ],
)
def test_other_answers_are_told_in_words(httpserver: HTTPServer, response: Response, words: str) -> None:
    httpserver.expect_request("/any").respond_with_response(response)
    with pytest.raises(MeterAnswerError, match=words):
        make(httpserver, "/any", pointer="/w", unit="W").read(1.0)


def test_a_plug_that_does_not_answer_ends_with_the_timeout(httpserver: HTTPServer) -> None:
    release = threading.Event()

    def hang(request: Request) -> Response:
        release.wait(30)
        return Response("{}")

    httpserver.expect_request("/any").respond_with_handler(hang)
    try:
        with pytest.raises(OSError, match="timed out"):
            make(httpserver, "/any", pointer="/w", unit="W", timeout_s=0.2).read(1.0)
    finally:
        release.set()


def test_a_plug_that_sends_byte_by_byte_ends_with_the_timeout(httpserver: HTTPServer) -> None:
    release = threading.Event()

    def drip() -> Iterator[bytes]:
        while not release.wait(0.02):
            yield b" "

    httpserver.expect_request("/any").respond_with_handler(lambda request: Response(drip()))
    try:
        with pytest.raises(TimeoutError, match="too long"):
            make(httpserver, "/any", pointer="/w", unit="W", timeout_s=0.2).read(1.0)
    finally:
        release.set()


def test_a_token_is_kept_out_of_words(httpserver: HTTPServer) -> None:
    assert "secret" not in repr(MeterOptions(id="plug", url="http://plug/", token="secret"))
    with pytest.raises(MeterAnswerError, match="ValueError") as refused:
        make(httpserver, "/any", pointer="/w", unit="W", token="secret\n").read(1.0)
    assert "secret" not in str(refused.value)


def test_the_path_of_a_preset_is_used_for_bare_addresses_only() -> None:
    assert complete_url("http://plug", "/cm?x=1") == "http://plug/cm?x=1"
    assert complete_url("http://plug/", "/cm?x=1") == "http://plug/cm?x=1"
    assert complete_url("http://plug/own?y=2", "/cm?x=1") == "http://plug/own?y=2"


def test_pointers_and_numbers() -> None:
    document = json.loads('{"": {"a~b": [1, {"c": "2.5"}]}}')
    assert find_value(document, "") == document
    assert as_number(find_value(document, "//a~0b/1/c")) == 2.5
    for pointer in ("/x", "//a~0b/2", "//a~0b/-1", "//a~0b/²"):
        with pytest.raises(MeterAnswerError):
            find_value(document, pointer)
