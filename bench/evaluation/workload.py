"""The workloads of the evaluation: a recorded trace where there is one, and generated ones, each in three slices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.mix import PRESETS, apply_mix
from ollama_proxy.lab.simulation.synthetic import generate
from ollama_proxy.lab.simulation.traces import Row, read_trace, stretch_rows, take_slice
from ollama_proxy.lab.simulation.workload import Arrival

PARTS = 3
TRACE = "azure_llm_2023_conv_head.csv.gz"
FOLDER_VARIABLE = "OLLAMA_PROXY_TRACES"


class Workload(msgspec.Struct, frozen=True):
    """Rows to take slices of. `title` is for people; `sha256` is that of the file, "" of a generated one."""

    name: str  # recorded, conv or code
    title: str
    rows: tuple[Row, ...]
    requests: int  # of each slice, at most
    seed: int
    sha256: str = ""

    def take(self, part: int) -> Sequence[Row]:
        """The first `requests` rows of a slice."""
        return take_slice(self.rows, part, PARTS, self.requests)

    def arrive(self, part: int, rate_per_min: float, mix: str) -> tuple[Arrival, ...]:
        """A slice at a rate, with the wishes of a mix."""
        return apply_mix(stretch_rows(self.take(part), rate_per_min), PRESETS[mix], self.seed)

    def capacity_per_min(self, part: int) -> float:
        """Requests a minute that the default devices could serve if none ever idled or slowed another down."""
        rows = self.take(part)
        return sum(
            one.slots * 60.0 * len(rows) / sum(one.service_s(row.prompt_tokens, row.output_tokens) for row in rows)
            for one in DEFAULT_DEVICES
        )


def find_workloads(requests: int, seed: int, environ: Mapping[str, str] = os.environ) -> dict[str, Workload]:
    """By name; the first one is what the goals are about. Raises `TraceError` for a trace that cannot be read."""
    found = [_generate("conv", requests, seed), _generate("code", requests, seed)]
    folder = environ.get(FOLDER_VARIABLE)
    if folder and (path := Path(folder) / TRACE).is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.insert(0, Workload("recorded", f"recorded chat ({TRACE})", read_trace(path), requests, seed, digest))
    return {one.name: one for one in found}


def _generate(kind: str, requests: int, seed: int) -> Workload:
    """The rows that `lab simulate --synthetic KIND --requests N --slice K/3` has, too."""
    arrivals = generate(kind, requests * PARTS, 60.0, seed)
    rows = tuple(Row(one.id, round(one.at_s * 1e9), one.prompt_tokens, one.output_tokens) for one in arrivals)
    return Workload(kind, f"generated {'chat' if kind == 'conv' else 'code completion'} ({kind})", rows, requests, seed)
