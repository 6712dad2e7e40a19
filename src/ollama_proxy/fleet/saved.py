"""What was learned of a backend, as it outlasts a restart."""

from __future__ import annotations

import msgspec

from ollama_proxy.fleet.health import WELL
from ollama_proxy.fleet.learning import MOST_LOAD_FACTOR, touch_learner
from ollama_proxy.fleet.pools import Pools, SavedCouplings
from ollama_proxy.fleet.rates import MAX_MODELS, SavedRates
from ollama_proxy.fleet.record import Record
from ollama_proxy.fleet.refusals import SavedRefusal


class SavedBackend(msgspec.Struct, frozen=True):
    """What was learned of a backend, by model. An emulated device teaches nothing of the real one behind its name."""

    emulated: bool
    models: dict[str, SavedRates]
    #: How much neighbours slow it.
    slowed: SavedCouplings = {}
    #: Prompts that were too long.
    refused: dict[str, list[SavedRefusal]] = {}
    load_factor: float = 1.0


def save_backend(record: Record, pools: Pools, now_s: float) -> SavedBackend:
    """As it is known now."""
    return SavedBackend(
        record.emulated,
        {model: one.save() for model, one in record.learners.items()},
        pools.save(record.spec.id),
        record.refusals.save(now_s),
        record.load_factor,
    )


def restore_backend(record: Record, before: SavedBackend, pools: Pools, age_s: float, now_s: float) -> bool:
    """Take up what was known `age_s` ago; False, and nothing is, where the backend is known to be another now."""
    if record.health is WELL and record.emulated is not before.emulated:
        return False
    for model, one in list(before.models.items())[-MAX_MODELS:]:
        learner = touch_learner(record, model, now_s)
        learner.restore(one, age_s)
        record.rates = {**record.rates, model: learner.rates()}
    pools.restore(record.spec.id, before.slowed, age_s, now_s)
    record.refusals.restore(before.refused, age_s, now_s)
    record.load_factor = min(max(before.load_factor, 1 / MOST_LOAD_FACTOR), MOST_LOAD_FACTOR)
    return True
