"""Under the system's power cap: the set is exchanged for what it has nobody for, within the cap, and nobody starves.

The dispatcher, the queue, the steering and the decision are real; backends are scripted, and time is the test's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.app.steering import Steering
from ollama_proxy.config.schema import Config, Routing
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import ErrorKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.energy.meters.supply import PowerSupply
from tests.unit.app.requests.test_dispatch import Client, ScriptedBackend, Stage

#: Watts, watts while reading a prompt, tokens a second: of prompts, of answers.
DEVICES = {
    "npu": (3.0, 3.6, 150.0, 10.0),
    "igpu": (12.0, 15.6, 300.0, 22.0),
    "nvidia": (55.0, 71.0, 1500.0, 65.0),
    "cpu": (28.0, 31.0, 45.0, 6.0),
}
#: Bytes of prompts that are read in no time, and that take any of them several seconds.
SHORT, LONG = 4, 40_000


class Ask(msgspec.Struct, frozen=True):
    """One request: when it comes, for which model, how long it is, how long it takes."""

    at_s: float
    model: str
    lasts_s: float = 5.0
    prompt_bytes: int = SHORT
    embed: bool = False


class Plant:
    """Four devices under a cap, each with models of its own."""

    def __init__(self, cap_w: float, models: dict[str, Sequence[str]], *, held: bool = True) -> None:
        self.stage = stage = Stage()
        self.cap_w = cap_w
        for name, (watts, prefill_watts, prefill_tps, tps) in DEVICES.items():
            backend = ScriptedBackend(name)
            backend.spec = BackendSpec(
                name,
                "ollama",
                name,
                name,
                watts,
                10,
                tps,
                held=held,
                prefill_tokens_per_second=prefill_tps,
                prefill_watts=prefill_watts,
            )
            stage.backends[name] = stage.dispatcher.backends[name] = backend  # type: ignore[index]
            stage.fleet.add(backend.spec, backend.capabilities)
            facts = {model: ModelFacts(model) for model in models.get(name, ())}
            stage.fleet.probed(name, ProbeReport(facts, frozenset(facts)), 0)
        config = Config(routing=Routing(system_cap_watts=cap_w))
        self.steering = Steering(config, stage.fleet.view, lambda: PowerSupply(None, None, None, ()))
        self.steering.wants = lambda: stage.dispatcher.admission.wants
        stage.dispatcher.policy = self.steering.policy
        stage.dispatcher.resteer = self._steer
        self.clients: list[Client] = []
        #: By request: when it began, and where.
        self.begun: dict[int, tuple[float, str]] = {}
        self._seen = dict.fromkeys(DEVICES, 0)
        self._prompts: list[int] = []
        self._reads_to_s = dict.fromkeys(DEVICES, 0.0)
        self._ends: list[tuple[float, int, str, int]] = []
        self._order = count()

    def _steer(self) -> None:
        if self.steering.tick():
            self.stage.dispatcher.policy = self.steering.policy

    async def run(self, asks: Sequence[Ask], *, to_s: float = 1e6) -> None:
        """All of it, in the order of time, with a sweep every five seconds at least."""
        stage, start_s = self.stage, self.stage.now_s
        upcoming = sorted(asks, key=lambda one: one.at_s)
        while (upcoming or self._ends or stage.dispatcher.running) and stage.now_s - start_s < to_s:
            next_s = stage.now_s + 5.0
            if upcoming:
                next_s = min(next_s, start_s + upcoming[0].at_s)
            if self._ends:
                next_s = min(next_s, self._ends[0][0])
            # What runs here says nothing until its end, and this is not about who is silent for too long.
            stage.dispatcher.forgive(next_s - stage.now_s)
            stage.now_s = next_s
            while self._ends and self._ends[0][0] <= next_s:
                _, _, name, place = heapq.heappop(self._ends)
                attempt = stage.backends[name].attempts[place]
                if not attempt.aborted:
                    attempt.sink.on_events([TextDelta("x")])
                    attempt.sink.on_end(Finished(usage=Usage(output_tokens=1)))
            while upcoming and start_s + upcoming[0].at_s <= next_s:
                self._submit(upcoming.pop(0))
            self._steer()
            stage.dispatcher.sweep(next_s)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._look(asks)

    def _submit(self, ask: Ask) -> None:
        client = Client()
        number = len(self.clients)
        self.clients.append(client)
        self._prompts.append(ask.prompt_bytes)
        operation = Operation.EMBED if ask.embed else Operation.GENERATE
        call = Call(str(number), Dialect.OLLAMA, operation, ask.model, True, self.stage.now_s, Generation)
        call.annotations = Annotations()
        call.prompt_bytes = ask.prompt_bytes
        call.needs = frozenset((Need.EMBED if ask.embed else Need.GENERATE,))
        self.stage.dispatcher.submit(call, client)
        self._look((ask,) * (number + 1))

    def _look(self, asks: Sequence[Ask]) -> None:
        """What has begun, and when it will end; all that run are within the cap."""
        for name, backend in self.stage.backends.items():
            for place in range(self._seen[name], len(backend.attempts)):
                attempt = backend.attempts[place].sink
                number = int(attempt.taken.request_id)  # type: ignore[attr-defined]
                self.begun[number] = (self.stage.now_s, name)
                lasts_s = sorted(asks, key=lambda one: one.at_s)[number].lasts_s
                heapq.heappush(self._ends, (self.stage.now_s + lasts_s, next(self._order), name, place))
                reading_s = self._prompts[number] * 0.27 / DEVICES[name][2]
                if reading_s > 1:
                    self._reads_to_s[name] = self.stage.now_s + min(lasts_s, reading_s)
            self._seen[name] = len(backend.attempts)
        assert self._draw() <= self.cap_w + 1e-6

    def _draw(self) -> float:
        """Watts of all that run, and on top what one of them draws more while it reads a long prompt."""
        running = [name for name in DEVICES if self.stage.view(name).in_flight]
        reading = [name for name in running if self.stage.now_s < self._reads_to_s[name]]
        more_w = max([DEVICES[name][1] - DEVICES[name][0] for name in reading], default=0.0)
        return sum(DEVICES[name][0] for name in running) + more_w


def play(cap_w: float, models: dict[str, Sequence[str]], asks: Sequence[Ask], **options: bool) -> Plant:
    async def scene() -> Plant:
        plant = Plant(cap_w, models, **options)
        await plant.run(asks)
        return plant

    return asyncio.run(scene())


ONLY = {"npu": ("small:1b",), "nvidia": ("big:1b",), "cpu": ("odd:1b",)}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("embed", [False, True])
def test_what_only_a_device_outside_of_the_set_has_is_served(held: bool, embed: bool) -> None:
    plant = play(60, ONLY, [Ask(0, "odd:1b", embed=embed)], held=held)
    assert plant.begun[0] == (1000.0, "cpu")
    assert plant.clients[0].outcome is not None


def test_it_waits_until_what_runs_leaves_room_and_the_others_go_on_then() -> None:
    plant = play(
        60, ONLY, [Ask(0, "big:1b", 20), Ask(1, "odd:1b", 10), Ask(2, "big:1b"), Ask(3, "small:1b"), Ask(50, "big:1b")]
    )
    assert [plant.begun[number] for number in range(5)] == [
        (1000.0, "nvidia"),
        (1020.0, "cpu"),
        (1030.0, "nvidia"),
        (1003.0, "npu"),
        (1050.0, "nvidia"),
    ]


@pytest.mark.parametrize("held", [True, False])
def test_nobody_starves_while_others_keep_coming(held: bool) -> None:
    flood = [Ask(second, "big:1b", 4.5) for second in range(0, 120, 2)]
    plant = play(60, ONLY, [*flood, Ask(5, "odd:1b", 6), Ask(6, "odd:1b", 6)], held=held)
    odd = [began_s - 1000 for began_s, name in plant.begun.values() if name == "cpu"]
    # Behind those of the flood that came before it.
    assert len(odd) == 2
    assert max(odd) < 30
    assert all(client.outcome is not None for client in plant.clients)


def test_a_prompt_that_no_member_may_read_beside_the_others_is_read_alone() -> None:
    plant = play(
        75,
        {"nvidia": ("big:1b",), "igpu": ("mid:1b",)},
        [Ask(0, "mid:1b", 9), Ask(1, "big:1b", 9, LONG), Ask(2, "mid:1b")],
    )
    assert plant.begun[1] == (1009.0, "nvidia")
    assert plant.begun[2] == (1018.0, "igpu")


@pytest.mark.parametrize(
    ("cap_w", "model", "prompt_bytes", "least_w"),
    [(50, "big:1b", SHORT, 55), (60, "big:1b", LONG, 71), (20, "odd:1b", SHORT, 28)],
)
def test_what_the_device_alone_cannot_do_within_the_cap_is_refused(
    cap_w: float, model: str, prompt_bytes: int, least_w: float
) -> None:
    (client,) = play(cap_w, ONLY, [Ask(0, model, prompt_bytes=prompt_bytes)]).clients
    assert client.error is not None
    assert client.error.kind is ErrorKind.LIMITS_EXCLUDE_ALL
    assert f"the system's power cap is {cap_w:g} W" in client.error.message
    told = f"the least power cap (routing.system_cap_watts) that would do is {least_w:g} W"
    assert client.error.message.endswith(told)


models = st.sampled_from(("small:1b", "mid:1b", "big:1b", "odd:1b"))
held_by = st.fixed_dictionaries({name: st.lists(models, max_size=3, unique=True) for name in DEVICES})
asks = st.lists(
    st.builds(
        Ask,
        at_s=st.integers(0, 40).map(lambda quarter: quarter / 4),
        model=models,
        lasts_s=st.sampled_from((0.5, 3.0, 12.0)),
        prompt_bytes=st.sampled_from((SHORT, LONG)),
        embed=st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from((13, 30, 58, 60, 75, 90)), held_by, asks, st.booleans())
def test_whatever_comes_the_cap_holds_and_all_that_can_be_served_is(
    cap_w: float, models: dict[str, list[str]], asks: list[Ask], held: bool
) -> None:
    plant = play(cap_w, models, asks, held=held)
    for ask, client in zip(sorted(asks, key=lambda one: one.at_s), plant.clients, strict=True):
        needs = [
            peak_w if ask.prompt_bytes * 0.27 / prefill_tps > 0.5 else watts
            for name, (watts, peak_w, prefill_tps, _) in DEVICES.items()
            if ask.model in models[name]
        ]
        if any(need_w <= cap_w for need_w in needs):
            assert client.outcome is not None
        else:
            assert client.error is not None
            assert ("power cap" in client.error.message) is bool(needs)
