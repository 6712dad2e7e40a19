"""One request inside a device: its phase, what is left of it, what it has cost."""

from __future__ import annotations

import enum
import math
import random

from ollama_proxy.lab.simulation.device_model import DeviceModel
from ollama_proxy.lab.simulation.events import Ended

_STALL = 2.0


class Phase(enum.IntEnum):
    """In this order; a phase that is not needed is left out."""

    QUEUED = 0
    WAKING = 1
    LOADING = 2
    PREFILL = 3
    DECODE = 4


class Luck:
    """How a request's rates differ from nominal: standard normals and a uniform number, by seed and job alone.

    Hence a job meets the same luck whatever the policy, and whatever ran before it.
    """

    __slots__ = ("decode_z", "prefill_z", "stall_u")

    def __init__(self, seed: int, job: int) -> None:
        dice = random.Random(f"{seed}:{job}")
        self.prefill_z = dice.gauss(0.0, 1.0)
        self.decode_z = dice.gauss(0.0, 1.0)
        self.stall_u = dice.random()


class Job:
    """A request's progress. `prefill_s` and `decode_s` are what it takes alone at full speed.

    `left_s` is the nominal rest of its phase in seconds, done at `speed`.
    """

    __slots__ = (
        "began_s",
        "decode_s",
        "id",
        "joules",
        "left_s",
        "load_s",
        "model",
        "phase",
        "prefill_s",
        "prefill_took_s",
        "speed",
        "watts",
    )

    def __init__(self, number: int, tokens: tuple[int, int], model: str, device: DeviceModel, luck: Luck) -> None:
        """`tokens`: of the prompt and of the answer."""
        slow = _STALL if luck.stall_u < device.stall_probability else 1.0
        prefill_s = device.overhead_s + tokens[0] / (device.prefill_tps * math.exp(device.noise * luck.prefill_z))
        self.id = number
        self.model = model
        self.prefill_s = slow * prefill_s
        self.decode_s = slow * tokens[1] / (device.decode_tps * math.exp(device.noise * luck.decode_z))
        self.phase = Phase.QUEUED
        self.left_s = math.inf
        self.speed = self.watts = self.joules = 0.0
        self.began_s = self.load_s = self.prefill_took_s = 0.0

    def enter(self, phase: Phase, now_s: float, left_s: float = math.inf) -> None:
        """Begin a phase before the work itself; `left_s` where it is work that can be slowed."""
        if self.phase is Phase.QUEUED:
            self.began_s = now_s
        self.phase, self.left_s = phase, left_s

    def begin_prefill(self, now_s: float) -> None:
        """Device and model are ready."""
        if self.phase is not Phase.QUEUED:
            self.load_s = now_s - self.began_s
        self.phase, self.left_s, self.began_s = Phase.PREFILL, self.prefill_s, now_s

    def begin_decode(self, now_s: float) -> None:
        """The first token is out."""
        self.prefill_took_s = now_s - self.began_s
        self.phase, self.left_s, self.began_s = Phase.DECODE, self.decode_s, now_s

    def end(self, now_s: float) -> Ended:
        """What became of it."""
        return Ended(self.id, now_s, self.load_s, self.prefill_took_s, now_s - self.began_s, self.joules)
