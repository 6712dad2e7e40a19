"""Models and the memory that they have to fit into."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.domain.decision import Decision, Limit, Refusal
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import decide_again, make_record, replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.support.fleets import POLICY, wants

GB = 10**9
SIZES = {"small:latest": 2 * GB, "middle:latest": 5 * GB, "large:latest": 12 * GB}
MODELS = {name: ModelFacts(name, size_bytes=size) for name, size in SIZES.items()}
SPEC = BackendSpec("a", "ollama", "a", "igpu", 10, 100, 20, slots=2, memory_gb=8)


def view(*loaded: str, spec: BackendSpec = SPEC, **fields: Any) -> BackendView:
    names = frozenset(map(canonical_model, loaded))
    return BackendView(spec, Health.HEALTHY, models=MODELS, loaded=names, memory={}, **fields)


def ask(model: str, *views: BackendView) -> Decision | Refusal:
    request = wants(canonical_model(model))
    fleet = FleetView(1, views)
    given = (request, fleet, POLICY, frozenset[str](), "", False)
    verdict = decide_again(given)
    # Whatever it is, the record of it says as much as was read.
    written = write_record(make_record("d-1-1", 0.0, given, verdict))
    assert write_record(replay(read_record(written))) == written
    return verdict


def loads(model: str, *views: BackendView) -> tuple[float, float]:
    """Seconds and joules of loading."""
    verdict = ask(model, *views)
    assert isinstance(verdict, Decision)
    one = verdict.scored[0][1]
    return one.load_s, one.load_joules


def test_what_fits_beside_the_others_costs_its_own_load() -> None:
    alone, beside = loads("small", view()), loads("small", view("middle"))
    assert alone == beside == (3.0, 30.0)


def test_what_does_not_fit_beside_the_others_costs_loading_those_again_too() -> None:
    # 5 GB beside 5 GB of 8: the one that is there takes 6 s to come back, at 10 W.
    other = {**MODELS, "other:latest": ModelFacts("other", size_bytes=5 * GB)}
    crowded = msgspec.structs.replace(view("other"), models=other)
    assert loads("middle", crowded) == (6.0, 60.0 + 60.0)
    # What was learned of its load goes before the size of its file; and what the server says it takes, too.
    learned = msgspec.structs.replace(crowded, rates={"other:latest": Rates(0.1, 100, 10, load_s=2.0)}, memory={})
    assert loads("middle", learned) == (6.0, 60.0 + 20.0)
    shrunk = msgspec.structs.replace(crowded, resident_bytes={"other:latest": 3 * GB}, memory={})
    assert loads("middle", shrunk) == (6.0, 60.0)


def test_a_model_that_is_in_use_goes_only_when_it_is_not() -> None:
    other = {**MODELS, "other:latest": ModelFacts("other", size_bytes=5 * GB)}
    waits = []
    for loaded in ("other", "small"):
        busy = msgspec.structs.replace(view(loaded, in_flight=1), models=other)
        verdict = ask("middle", busy)
        assert isinstance(verdict, Decision)
        waits.append(verdict.wait_s)
    # One of two slots is free; but the model to be evicted works.
    assert waits[0] > 0 == waits[1]


def test_what_never_fits_is_refused_by_name() -> None:
    verdict = ask("large", view())
    assert isinstance(verdict, Refusal)
    (rejection,) = verdict.rejections
    assert (rejection.limit, rejection.detail) == (Limit.MEMORY, "model has 12.0 GB, memory 8 GB")


def test_what_devices_beside_it_hold_is_taken() -> None:
    verdict = ask("middle", view("small", beside_bytes=4 * GB))
    assert isinstance(verdict, Refusal)
    (rejection,) = verdict.rejections
    assert (rejection.limit, rejection.detail) == (Limit.MEMORY_NOW, "needs 5.0 GB; others hold 4.0 of the 8 GB")
    # What is there already needs no room.
    assert isinstance(ask("small", view("small", beside_bytes=7 * GB)), Decision)


def test_where_memory_is_not_known_nothing_is_reckoned() -> None:
    unknown = msgspec.structs.replace(SPEC, memory_gb=0.0)
    assert loads("large", view("middle", spec=unknown, beside_bytes=100 * GB)) == (13.0, 130.0)


def test_a_warm_backend_is_preferred_to_one_that_would_have_to_evict() -> None:
    spec = msgspec.structs.replace(SPEC, id="b")
    verdict = decide(wants("middle:latest"), FleetView(1, (view("small"), view("middle", spec=spec))), POLICY)
    assert isinstance(verdict, Decision)
    assert verdict.backend == "b"


def entry(name: str, size_bytes: object) -> dict[str, object]:
    return {"name": name, "model": name, "size": size_bytes}


def test_the_fleet_tells_sharing_devices_what_the_others_hold() -> None:
    fleet = Fleet()
    for name, pool in (("a", "ram"), ("b", "ram"), ("c", "")):
        fleet.add(msgspec.structs.replace(SPEC, id=name, memory_pool=pool), frozenset())
        fleet.probed(name, ProbeReport(MODELS), 0)
    fleet.probed("a", ProbeReport(MODELS, loaded_entries=(entry("small:latest", 3 * GB), entry("odd", "much"))), 1)
    assert [one.beside_bytes for one in fleet.view().backends] == [0, 3 * GB, 0]
    assert fleet.look("a").resident_bytes == {"small:latest": 3 * GB}
    fleet.probed("a", ProbeReport(MODELS), 2)
    assert [one.beside_bytes for one in fleet.view().backends] == [0, 0, 0]


@pytest.mark.parametrize("memory_gb", [0.0, 8.0])
def test_between_probes_a_model_that_made_room_is_taken_to_be_gone(memory_gb: float) -> None:
    fleet = Fleet()
    fleet.add(msgspec.structs.replace(SPEC, memory_gb=memory_gb), frozenset())
    fleet.probed("a", ProbeReport({**MODELS, "other:latest": ModelFacts("other", size_bytes=5 * GB)}), 0)
    for name in ("middle", "other"):
        fleet.succeeded("a", name, Observation(None, None), 1.0)
    expected = {"other:latest"} if memory_gb else {"middle:latest", "other:latest"}
    assert fleet.look("a").loaded == expected
