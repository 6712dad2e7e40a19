"""What the proxy wrote down of its decisions: replayed, and put together with what the client saw as a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.evaluation.live.client import Sent, name_request
from ollama_proxy.lab.simulation.workload import Arrival, Run, Served
from ollama_proxy.routing.record import Record, replay
from ollama_proxy.routing.record_lines import read_record, write_record


class Recorded(msgspec.Struct, frozen=True):
    """All decisions of a run by request, and which of them come out otherwise when they are taken again."""

    by_request: dict[str, Record]
    decisions: int
    differing: tuple[str, ...]


def read_recorded(file: Path) -> Recorded:
    """Of a request with several attempts the last one is kept. Raises `OSError` and `RecordError`."""
    found: dict[str, Record] = {}
    differing = []
    lines = file.read_bytes().splitlines()
    for line in lines:
        record = read_record(line)
        if write_record(replay(record)) != line:
            differing.append(record.id)
        request = record.id.removeprefix("d-").rpartition("-")[0]
        if request not in found or found[request].attempt < record.attempt:
            found[request] = record
    return Recorded(found, len(lines), tuple(differing))


def make_run(
    arrivals: Iterable[Arrival], sent: Sequence[Sent], records: Mapping[str, Record], speed: float, joules: float
) -> Run:
    """The live run in life's seconds, all times by the proxy's clock, so that what was first there is first here.

    `joules` are the devices' own; those of each request are what the proxy booked, 0 where it booked nothing.
    """
    zero_unix_s = _find_zero(sent, records)
    served = []
    for arrival, answer in zip(arrivals, sent, strict=True):
        record = records.get(name_request(answer.id))
        outcome = record.outcome if record is not None and answer.status == 200 else None
        if record is None or outcome is None or outcome.result != "ok":
            came_s = answer.sent_s * speed
            arrived = msgspec.structs.replace(arrival, at_s=came_s)
            served.append(Served(arrived, "", came_s, came_s, answer.ended_s * speed, 0.0))
            continue
        started_s = (record.decided_unix_s - zero_unix_s) * speed
        arrived = msgspec.structs.replace(arrival, at_s=started_s - (outcome.waited_s or 0.0) * speed)
        first_s, ended_s = started_s + (outcome.ttft_s or 0.0) * speed, started_s + (outcome.e2e_s or 0.0) * speed
        booked_j = (outcome.joules or 0.0) * speed
        served.append(Served(arrived, record.verdict.backend, started_s, first_s, ended_s, booked_j))
    return Run("predictive", tuple(served), joules, 0.0, 0.0, (), 0)


def _find_zero(sent: Sequence[Sent], records: Mapping[str, Record]) -> float:
    """When the workload began by the proxy's clock: as if the request that was quickest there had taken no time."""
    found = [(records.get(name_request(one.id)), one.sent_s) for one in sent]
    return min(
        (
            record.decided_unix_s - (record.outcome.waited_s or 0.0) - sent_s
            for record, sent_s in found
            if record is not None and record.outcome is not None
        ),
        default=0.0,
    )


def sum_joules(run: Run) -> dict[str, float]:
    """Joules of the requests by device."""
    found: dict[str, list[float]] = {}
    for one in run.served:
        if one.device:
            found.setdefault(one.device, []).append(one.joules)
    return {device: math.fsum(parts) for device, parts in sorted(found.items())}
