"""Joules of real requests against emulated devices: in gRPC stats, on the status pages, and in the ledger."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.sysfs import FakeSysfs

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
IDLE_W, BUSY_W = 10, 70


class Metered:
    """A proxy before the lab whose graphics card has a meter: a command that prints what stands in a file."""

    def __init__(self, lab: LabProcess, work: Path, watts: Path) -> None:
        source = {
            "id": "plug",
            "type": "command",
            "command": ["cat", str(watts)],
            "unit": "W",
            "backends": ["ollama-nvidia"],
            "emulated": True,
            "interval_seconds": 0.1,
        }
        self.asked = 0
        self.watts = watts
        self.ledger = watts.with_suffix(".sqlite")
        self.proxy = ProxyProcess(
            work,
            endpoints=lab.endpoints,
            speed=lab.speed,
            changes={"meters": {"sources": [source]}, "energy": {"ledger_path": str(self.ledger)}},
        )
        self.draw(IDLE_W)

    def draw(self, watts: int) -> None:
        new = self.watts.with_suffix(".new")
        new.write_text(f"{watts}\n")
        new.replace(self.watts)

    def ask(self, target: str, tokens: int) -> compute_pb2.GenerateResponse:
        request = compute_pb2.GenerateRequest(
            prompt="Why is the sky blue?",
            model=MODEL,
            options=compute_pb2.GenerationOptions(max_tokens=tokens),
            annotations=compute_pb2.JobAnnotations(target=target),
        )
        with grpc.insecure_channel(self.proxy.grpc) as channel:
            ask = channel.unary_unary(
                "/compute.v1.ComputeService/Generate",
                request_serializer=compute_pb2.GenerateRequest.SerializeToString,
                response_deserializer=compute_pb2.GenerateResponse.FromString,
            )
            self.asked += 1
            name = (("x-request-id", f"asked-{self.asked}"),)
            answer: compute_pb2.GenerateResponse = ask(request, timeout=30, metadata=name)
        return answer

    def wait_for_row(self) -> dict[str, Any]:
        """What the ledger has of the last request; its row is written a moment after the answer."""

        def find() -> list[dict[str, Any]]:
            return self.rows("request_id", f"asked-{self.asked}")

        wait_until(lambda: bool(find()), "the ledger")
        (row,) = find()
        return row

    def rows(self, column: str, value: str) -> list[dict[str, Any]]:
        """What the ledger has by now."""
        if not self.ledger.exists():
            return []
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            found = connection.execute(f"SELECT * FROM requests WHERE {column} = ? ORDER BY id", [value])
            return [dict(row) for row in found]
        finally:
            connection.close()


@pytest.fixture(scope="module")
def metered(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    folder = tmp_path_factory.mktemp("energy")
    with LabProcess(work, speed=4) as lab, FakeSysfs() as sysfs:
        sysfs.add_temperatures()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OLLAMA_PROXY_SYSFS_ROOT", str(sysfs.root))
            stage = Metered(lab, work, folder / "watts")
            with stage.proxy:
                yield stage


def test_a_meter_reaches_stats_and_ledger(metered: Metered) -> None:
    def is_idle_known() -> bool:
        found = json.loads(http_get(metered.proxy.url + "/backends", {"Accept": "application/json"})[1])
        meters = next(one for one in found["backends"] if one["id"] == "ollama-nvidia").get("meters", [])
        return any(one["watts"] == IDLE_W for one in meters)

    wait_until(is_idle_known, "the meter")
    metered.draw(BUSY_W)
    answer = metered.ask("ollama-nvidia", 400)
    metered.draw(IDLE_W)
    assert answer.backend_used == "ollama-nvidia"
    assert answer.stats.energy_wh > 0
    row = metered.wait_for_row()
    assert (row["backend"], row["kind"], row["outcome"], row["model"]) == ("ollama-nvidia", "emulated", "ok", MODEL)
    # Not by the 55 W that are configured: by what the meter showed, as far as a plug read ten times a second can.
    assert row["full_j"] == pytest.approx(BUSY_W * row["seconds"], rel=0.5)
    assert row["output_tokens"] == answer.stats.tokens_generated


def test_others_are_modelled_and_told_as_emulated(metered: Metered) -> None:
    answer = metered.ask("ollama-igpu", 20)
    row = metered.wait_for_row()
    assert (row["backend"], row["kind"]) == ("ollama-igpu", "emulated")
    assert row["marginal_j"] == pytest.approx(12 * row["seconds"])
    assert answer.stats.energy_wh * 3600 == pytest.approx(row["marginal_j"], rel=1e-3)
    assert row["static_j"] is not None


def test_pages_and_metrics_show_it(metered: Metered) -> None:
    metered.ask("ollama-cpu", 5)
    # The books match meters to backends a moment after these first answered.
    wait_until(lambda: "Meter: plug (emulated, " in http_get(metered.proxy.url + "/backends")[1], "the meter's line")
    thermal = json.loads(http_get(metered.proxy.url + "/thermal")[1])
    assert (thermal["cpu"]["Temperature"], thermal["npu"]["Temperature"]) == (63.0, None)
    page = ""

    def is_counted() -> bool:
        nonlocal page
        page = http_get(metered.proxy.url + "/metrics")[1]
        return 'ollama_proxy_energy_joules_total{backend="ollama-cpu",kind="emulated"}' in page

    wait_until(is_counted, "the metric")
    assert 'ollama_proxy_meter_stale{source="plug"} 0.0' in page


def test_the_page_says_what_the_command_says(metered: Metered) -> None:
    metered.ask("ollama-igpu", 20)
    metered.wait_for_row()
    page = metered.proxy.url + "/proxy/ledger?by=backend&since=1h"
    found = json.loads(http_get(page)[1])
    (group,) = [one for one in found["groups"] if one["name"] == "ollama-igpu"]
    rows = metered.rows("backend", "ollama-igpu")
    assert group["attempts"] == len(rows)
    assert group["joules"] == pytest.approx(sum(row["marginal_j"] for row in rows))
    assert found["total"]["requests"] >= group["requests"] >= 1
    status, text = http_get(metered.proxy.url + "/proxy/ledger?by=colour")
    assert status == 400
    assert "model, backend, key, day" in text
    assert http_get(metered.proxy.url + "/proxy/ledger?since=yesterday")[0] == 400


def test_the_command_shows_the_ledger(metered: Metered) -> None:
    metered.ask("ollama-igpu", 5)
    metered.wait_for_row()
    command = [sys.executable, "-P", "-m", "ollama_proxy", "ledger", "--by", "backend", "--file", str(metered.ledger)]
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    groups = json.loads(done.stdout)["groups"]
    assert "ollama-igpu" in {one["name"] for one in groups}
