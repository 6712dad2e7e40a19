"""The power limits of requests that only some backends are there for: what the others draw counts all the same."""

from __future__ import annotations

from typing import Any

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.decision import Policy, PowerSet
from ollama_proxy.domain.errors import ErrorKind
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage
from tests.unit.app.requests.test_preempting import LATER, URGENT, make_stage, submit, write
from tests.unit.app.requests.test_waiting import end_well, on_a_loop, opened, settle


def submit_for(stage: Stage, client: Client, *names: str, **wishes: Any) -> None:
    """A request of a key for some backends only."""
    call = Call("r2", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
    call.annotations = Annotations(**wishes)
    call.caller = Caller("k", backends=frozenset(names))
    stage.dispatcher.submit(call, client)


@on_a_loop
async def test_the_cap_holds_for_a_key_of_some_backends_too() -> None:
    stage = Stage("a", "b")  # 10 W each
    stage.dispatcher.policy = Policy(power_set=PowerSet(frozenset("a"), cap_watts=15))
    submit(stage, Client())
    assert stage.view("a").in_flight == 1
    stage.dispatcher.policy = Policy(power_set=PowerSet(frozenset("b"), cap_watts=15, before=frozenset("a")))
    client = Client()
    submit_for(stage, client, "b")
    await settle()
    assert stage.view("b").in_flight == 0
    end_well(opened(stage, "a")[0])
    await settle()
    assert stage.view("b").in_flight == 1
    assert client.error is None


def test_what_draws_beside_the_backends_of_a_key_counts_for_its_limit_of_the_system() -> None:
    stage = Stage("a", "b")
    submit(stage, Client(), target="a")
    refused = Client()
    submit_for(stage, refused, "b", max_power_watts=15, power_scope="system")
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.OVERLOADED
    assert "others draw 10.0 W" in refused.error.public
    assert "the least power limit that is kept is 20 W" in refused.error.public
    submit_for(stage, Client(), "b", max_power_watts=20, power_scope="system")
    assert stage.view("b").in_flight == 1


@on_a_loop
async def test_what_others_draw_counts_before_somebody_is_broken_off() -> None:
    stage = make_stage("a", "b")
    patient = Client()
    job = submit(stage, patient, max_power_watts=15, power_scope="system", **LATER)
    mine = job.life.backend
    write(opened(stage, mine)[0], "one")
    submit(stage, Client())  # takes the other one, 10 W more
    submit(stage, Client(), **URGENT)
    await settle()
    stage.pass_time(1.0)
    assert not opened(stage, mine)[0].aborted
    assert patient.error is None
