"""One run of the evaluation: a policy on a slice of a workload at a rate, and what is different from the defaults."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.evaluation.accounting import measure_accounting
from bench.evaluation.figures import Figures, measure_bound, measure_run
from bench.evaluation.workload import Workload
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.run import Setting, run_policy

#: Changes by name; `only NAMES` keeps some devices, `cap W` sets a power cap.
LAMBDA_3 = "lambda 3 W"
FIRST_COME = "first come first served"
LENGTHS_KNOWN = "lengths known"
MEMORY_AMPLE = "memory ample"
SPEEDS_LOW = "configured speeds half the real ones"
SPEEDS_HIGH = "configured speeds twice the real ones"
CARD_SLOWED = "graphics card slowed 2.2x for the middle third"
LEARNS_NOT = "learns nothing"
#: Not a change of the setting: the figures are those of the books, for some of the requests.
ACCOUNTED = "accounted"
_ACCOUNTED_REQUESTS = 400
_CARD = "nvidia"


class Case(msgspec.Struct, frozen=True):
    """What is run. `part` 0 stands for all slices."""

    workload: str
    rate_per_min: float
    policy: str = "predictive"
    mix: str = "default"
    changes: tuple[str, ...] = ()
    part: int = 0

    def on(self, part: int) -> Case:
        """The same on one slice."""
        return msgspec.structs.replace(self, part=part)


def run_case(case: Case, workload: Workload, has_bound: bool = False) -> Figures:
    """The figures of one slice, with those of the bound that is as good as this run if asked for."""
    arrivals = workload.arrive(case.part, case.rate_per_min, case.mix)
    setting = build_setting(case.changes, arrivals[-1].at_s, workload.seed)
    if ACCOUNTED in case.changes:
        return measure_accounting(arrivals[:_ACCOUNTED_REQUESTS], setting)
    run = run_policy(case.policy, arrivals, setting)
    figures = measure_run(run, is_capped=setting.cap_w > 0)
    return {**figures, **measure_bound(run, setting)} if has_bound else figures


def build_setting(changes: Sequence[str], span_s: float, seed: int) -> Setting:
    """The default setting with the changes, over a workload that lasts `span_s`. Raises `KeyError` for unknown ones."""
    setting = Setting(seed=seed)
    for change in changes:
        setting = _change(setting, change, span_s)
    return setting


def _change(setting: Setting, change: str, span_s: float) -> Setting:
    replace = msgspec.structs.replace
    word, _, rest = change.partition(" ")
    if word == "only":
        return replace(setting, devices=[one for one in DEFAULT_DEVICES if one.name in rest.split("+")])
    if word == "cap":
        return replace(setting, cap_w=float(rest))
    if change == CARD_SLOWED:
        drift = ((span_s / 3, span_s * 2 / 3, 2.2),)
        slowed = [replace(one, drift=drift) if one.hardware == _CARD else one for one in setting.devices]
        return replace(setting, devices=slowed)
    return {
        LAMBDA_3: lambda: replace(setting, policy=replace(setting.policy, lambda_watts=3.0)),
        FIRST_COME: lambda: replace(setting, in_order=False),
        LENGTHS_KNOWN: lambda: replace(setting, knows_lengths=True),
        MEMORY_AMPLE: lambda: replace(setting, host=replace(setting.host, memory_gb_s=1000.0)),
        SPEEDS_LOW: lambda: replace(setting, prior_factor=2.0),
        SPEEDS_HIGH: lambda: replace(setting, prior_factor=0.5),
        LEARNS_NOT: lambda: replace(setting, learns=False),
        ACCOUNTED: lambda: setting,
    }[change]()
