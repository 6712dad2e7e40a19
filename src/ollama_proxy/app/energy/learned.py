"""What requests are found to cost, by backend and model: learned from meters, told to the decision, kept."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ollama_proxy.app.energy.bill import Bill, learn_from, model
from ollama_proxy.app.energy.metered import Device
from ollama_proxy.energy.activity import RequestEnergy, learn_weights
from ollama_proxy.energy.model import Figure
from ollama_proxy.energy.regression import Coefficients, Regression, Regressions, SavedRegression
from ollama_proxy.fleet.state import Fleet

#: Coefficients are used from so many requests on, and shown to the decision when they have moved by this share.
_LEARNED_FROM = 5
_MOVED = 0.01
#: And to divide what several requests took at once.
_WEIGHED_FROM = 10


class SavedJoules(msgspec.Struct, frozen=True):
    """What requests cost a backend, by model. An emulated device teaches nothing of the real one behind its name."""

    emulated: bool
    models: dict[str, SavedRegression]


class LearnedJoules:
    """The regressions of all backends; what of them is in use is with each `Device`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._regressions = Regressions()

    def forget(self, backend: str) -> None:
        """Another server has its name now."""
        self._regressions.forget(backend)

    def save(self, devices: Mapping[str, Device]) -> dict[str, SavedJoules]:
        """What was found, by backend."""
        found = {name: self._regressions.save(name) for name in devices}
        return {name: SavedJoules(devices[name].emulated, one) for name, one in found.items() if one}

    def restore(self, devices: dict[str, Device], saved: Mapping[str, SavedJoules], age_s: float, now_s: float) -> None:
        """Take up what was found `age_s` ago, of backends that are still there and not known to be others now."""
        for view in self._fleet.view().backends:
            before = saved.get(view.id)
            if before is None or (view.health.serves and view.emulated is not before.emulated):
                continue
            device = devices.setdefault(view.id, Device(view))
            for name, one in before.models.items():
                self._use(device, view.id, name, self._regressions.restore(view.id, name, one, age_s), now_s)

    def learn(self, bill: Bill, energy: RequestEnergy) -> None:
        """A meter has shown what an attempt took."""
        backend, name = bill.decision.backend, bill.request.model
        seen = learn_from(bill, energy)
        if seen is None:
            return
        regression = self._regressions.pair(backend, name, bill.prior())
        regression.learn(*seen)
        found = self._use(bill.device, backend, name, regression, bill.ended_s)
        if found is not None and regression.samples >= _WEIGHED_FROM and bill.meter is not None:
            bill.meter.books[backend].weights = learn_weights(found)

    def model_settled(self, bill: Bill) -> Figure:
        """Without a meter: by what such requests were found to cost, else by the configured watts."""
        learned = bill.device.learned.get(bill.request.model) if bill.meter is not None else None
        if learned is None or bill.usage.output_tokens is None or bill.usage.counted_events:
            return model(bill)
        regression = self._regressions.pair(bill.decision.backend, bill.request.model)
        joules = bill.expect(learned)
        told = regression.predict(bill.prompt_tokens, bill.usage.output_tokens)
        doubt_j = joules * told.sigma_j / told.joules * 1.65 if told is not None and told.joules > 0 else None
        assert bill.meter is not None
        kind = "emulated" if bill.device.emulated or bill.meter.plan.emulated else "modelled"
        return Figure(joules, kind, bill.meter.add_floor(bill.decision.backend, joules, bill.own_s), doubt_j)

    def _use(
        self, device: Device, backend: str, name: str, regression: Regression, now_s: float
    ) -> Coefficients | None:
        """Tell the decision what such requests are found to cost; None while too few have shown it."""
        found = regression.coefficients
        if found is None or regression.samples < _LEARNED_FROM:
            return None
        learned = device.learned
        before = learned.get(name)
        if before is None or _has_moved(before, found):
            learned[name] = found
            self._fleet.teach_energy(backend, name, found.fixed_j, found.prefill_j, found.decode_j, now_s)
        return found


def _has_moved(before: Coefficients, now: Coefficients) -> bool:
    pairs = zip(
        (before.fixed_j, before.prefill_j, before.decode_j), (now.fixed_j, now.prefill_j, now.decode_j), strict=True
    )
    return any(abs(new - old) > _MOVED * max(old, new) for old, new in pairs)
