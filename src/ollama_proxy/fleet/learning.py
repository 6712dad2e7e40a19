"""What the end of an attempt changes in a backend's record: health, error rate, what is loaded, and learned speeds."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.device import Health
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.fleet.company import ALONE, Company, Occupancy
from ollama_proxy.fleet.health import WELL, HealthRecord, after_failure
from ollama_proxy.fleet.pools import Pools
from ollama_proxy.fleet.rates import MAX_MODELS, Learner, Observation
from ollama_proxy.fleet.record import Record
from ollama_proxy.routing.room import make_room
from ollama_proxy.routing.speeds import guess_load

#: What traffic teaches is shown this often: a decision a moment later is no worse for it, and most views then last.
TEACH_S = 0.1
#: So many answers of a backend teach in that time; more of the same would say the same and cost every request.
MOST_LESSONS = 16
#: A first token for which company lost less (as a logarithm) came as if alone.
_LEAST_CROWDED = 0.05
#: Share of a new request in the error rate and the mean latency.
_SHARE = 0.1
#: How far the guess of a load may be off, either way; and the share of a new load in how much longer than guessed
#: loads take.
MOST_LOAD_FACTOR = 50.0
_LOAD_SHARE = 0.3


def learn(record: Record, name: str, seen: Observation, pools: Pools, now_s: float) -> bool:
    """An answer of the model `name` (canonical) ended well; whether what is known now is to be shown at once."""
    news = record.health is not WELL or name not in record.loaded
    if news:
        record.health = WELL
        record.loaded = (record.loaded - _find_evicted(record, name)) | {name}
    record.ended.count(now_s)
    record.heard_s = now_s
    if record.silences:
        record.silences.pop(name, None)
    record.lessons += 1
    company = ALONE
    if record.occupancy is not None:
        seen, company = _find_company(record.occupancy, seen, now_s)
    if seen.ttft_s is not None or seen.decode_tps is not None or seen.load_s is not None:
        learner = touch_learner(record, name, now_s)
        beside = pools.meet(record.spec.id, seen.decode_s, now_s) if pools.is_shared else ()
        learner.learn(seen, now_s, beside, company)
        record.unshown[name] = learner
        if seen.load_s is not None:
            _learn_load_factor(record, name, seen.load_s)
    if record.error_rate:
        record.error_rate *= 1 - _SHARE
    if seen.ttft_s is not None:
        record.avg_latency_ms = _decayed(record.avg_latency_ms, seen.ttft_s)
    if news or not 0 <= now_s - record.taught_s < TEACH_S:
        record.taught_s = now_s
        record.lessons = 0
        return True
    record.taught = True
    return False


def learn_failure(record: Record, failure: Failure, threshold: int) -> None:
    """An attempt failed by the backend's fault. Who is not there is unhealthy at once, and others after `threshold`."""
    if failure.kind is FailureKind.REFUSED or not record.health.state.serves:
        record.health = after_failure(record.health, failure.public, threshold, hard=True)
    else:
        record.health = HealthRecord(Health.DEGRADED, record.health.failures + 1, failure.public)
    record.error_rate = record.error_rate * (1 - _SHARE) + _SHARE


def learn_energy(record: Record, name: str, joules: tuple[float, float, float], now_s: float) -> None:
    """What a request for a model costs, and each token of its prompt and of its answer."""
    learner = touch_learner(record, name, now_s)
    learner.learn_energy(*joules)
    record.rates = {**record.rates, name: learner.rates()}


def unsettle(record: Record) -> None:
    """All speeds are to be learned anew."""
    for learner in record.learners.values():
        learner.unsettle()
    record.rates = {name: one.rates() for name, one in record.learners.items()}


def touch_learner(record: Record, model: str, now_s: float) -> Learner:
    """That of a model, made when it is new and put last; the longest untouched falls out when there are too many."""
    learners = record.learners
    learner = learners.pop(model, None) or Learner(record.spec, now_s)
    learners[model] = learner
    if len(learners) > MAX_MODELS:
        oldest = next(iter(learners))
        del learners[oldest]
        record.unshown.pop(oldest, None)
        record.rates = {name: rates for name, rates in record.rates.items() if name != oldest}
    return learner


def _learn_load_factor(record: Record, name: str, load_s: float) -> None:
    """A load was seen; the first says more than a guess, the others move it a little."""
    facts = (record.models or {}).get(name)
    guess_s = guess_load(facts.size_bytes) if facts is not None else 0.0
    if guess_s:
        seen = min(max(load_s / guess_s, 1 / MOST_LOAD_FACTOR), MOST_LOAD_FACTOR)
        known = record.load_factor
        record.load_factor = seen if known == 1.0 else known ** (1 - _LOAD_SHARE) * seen**_LOAD_SHARE


def _find_evicted(record: Record, name: str) -> frozenset[str]:
    """Those that have probably made room for a model that was loaded since the last probe."""
    facts = (record.models or {}).get(name)
    if not record.spec.memory_gb or facts is None or name in record.loaded:
        return frozenset()
    return frozenset(make_room(record.look(), name, facts.size_bytes).evicted)


def _find_company(occupancy: Occupancy, seen: Observation, now_s: float) -> tuple[Observation, Company]:
    """What a request that has just ended showed, and beside how many; its first token only if it came as if alone."""
    first_s = now_s - (seen.decode_s or 0.0)
    if seen.ttft_s is not None and occupancy.between(first_s - seen.ttft_s, first_s)[1] > _LEAST_CROWDED:
        seen = msgspec.structs.replace(seen, ttft_s=None)
    return seen, occupancy.between(first_s, now_s)


def _decayed(mean_ms: float, ttft_s: float) -> float:
    return ttft_s * 1000 if not mean_ms else mean_ms * (1 - _SHARE) + ttft_s * 1000 * _SHARE
