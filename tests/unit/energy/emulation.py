"""A device whose truth is known, and a meter on it that steps, lags and errs. Virtual time, seeded dice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ollama_proxy.energy.activity import Phase

STEP_S = 0.1
SAMPLE_S = 0.2


@dataclass(frozen=True)
class Device:
    """Watts above the floor of one request in each phase; speeds of one request."""

    floor_w: float
    prefill_w: float
    decode_w: float
    prefill_tps: float
    decode_tps: float
    slots: int = 1


NVIDIA = Device(8, 71, 55, 1500, 65)
NVIDIA_OF_FOUR = Device(8, 24, 18, 600, 30, slots=4)
NPU = Device(0, 3.6, 3, 150, 10)
IGPU = Device(0, 15.6, 12, 300, 22)
CPU = Device(0, 31, 28, 45, 6)
#: Reads prompts slowly: a prompt token takes three times what the first weights say.
CPU_OF_FOUR = Device(5, 9, 8, 45, 6, slots=4)


@dataclass
class Job:
    """One request: what it did, when, and what it cost."""

    name: str
    begun_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float
    ended_s: float
    spans: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def joules(self) -> float:
        """The truth."""
        return sum((to_s - from_s) * watts for from_s, to_s, watts in self.spans)


def run_jobs(
    device: Device, seed: int, count: int, load: float, scale: float = 1.0, start_s: float = 10.0
) -> list[Job]:
    """Random requests, first come first served, at a share of what the device can do; `scale` shortens them."""
    dice = random.Random(seed)
    free_s = [start_s] * device.slots
    mean_s = (300 / device.prefill_tps + 90 / device.decode_tps) * 1.3 * scale / device.slots
    jobs, now_s = [], start_s
    for number in range(count):
        now_s += dice.expovariate(load / mean_s)
        prompt, output = (1 + int(scale * dice.lognormvariate(*shape)) for shape in ((5.4, 0.8), (4.3, 0.7)))
        slot = min(range(device.slots), key=free_s.__getitem__)
        begun_s = max(now_s, free_s[slot])
        first_s = begun_s + prompt / device.prefill_tps * dice.lognormvariate(0, 0.03)
        ended_s = first_s + output / device.decode_tps * dice.lognormvariate(0, 0.03)
        noise = dice.lognormvariate(0, 0.03)
        spans = [(begun_s, first_s, device.prefill_w * noise), (first_s, ended_s, device.decode_w * noise)]
        jobs.append(Job(f"{device.decode_w:g}-{number}", begun_s, prompt, output, first_s, ended_s, spans))
        free_s[slot] = ended_s
    return jobs


class Counter:
    """Cumulative joules in steps of 100 ms, with noise that is a share of each step's energy."""

    def __init__(self, jobs: list[Job], floor_w: float, until_s: float, seed: int, noise: float = 0.02) -> None:
        dice = random.Random(seed)
        steps = [floor_w * STEP_S] * (int(until_s / STEP_S) + 2)
        for job in jobs:
            for from_s, to_s, watts in job.spans:
                for index in range(int(from_s / STEP_S), min(int(to_s / STEP_S), len(steps) - 1) + 1):
                    seconds = min(to_s, (index + 1) * STEP_S) - max(from_s, index * STEP_S)
                    steps[index] += max(0.0, seconds) * watts
        total = 0.0
        self._shown = [0.0]
        for joules in steps:
            total += max(0.0, joules * (1 + dice.gauss(0, noise)))
            self._shown.append(total)

    def read(self, now_s: float) -> float:
        """What the counter shows."""
        return self._shown[int(now_s / STEP_S)]


def samples(until_s: float, seed: int, every_s: float = SAMPLE_S) -> Iterator[tuple[float, float]]:
    """Spans between reads, which come up to a tenth of a second late."""
    dice = random.Random(seed)
    last_s, number = 0.0, 1
    while number * every_s < until_s:
        now_s = number * every_s + dice.uniform(0, STEP_S)
        yield last_s, now_s
        last_s, number = now_s, number + 1


Step = tuple[float, int, Callable[[], None]]


def steps_of(job: Job, books: object) -> list[Step]:
    """What the proxy tells of a request, as it happens."""
    from ollama_proxy.energy.attribution import Attribution

    assert isinstance(books, Attribution)
    name = job.name
    return [
        (job.begun_s, 1, lambda: books.begin(name, job.begun_s)),
        (job.begun_s, 2, lambda: books.phase(name, Phase.PREFILL, job.begun_s)),
        (job.first_s, 3, lambda: books.phase(name, Phase.DECODE, job.first_s)),
        (job.ended_s, 4, lambda: books.end(name, job.ended_s, job.prompt_tokens, job.output_tokens)),
    ]
