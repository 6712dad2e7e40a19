"""One space of vectors a name: whose weights answer for it, so that vectors of different weights never meet.

Two backends may mean different weights by the same name. Text of either is as good; vectors of one are noise among
those of the other. So the weights that a name's first vectors came from answer for it from then on, for as long as any
backend has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_

import msgspec

from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.vectors import VectorSpace
from ollama_proxy.routing.limits import find_model
from ollama_proxy.routing.target import find_meant

_MOST_NAMES = 4096
_SHOWN_DIGITS = 12


class Holders(msgspec.Struct, frozen=True):
    """Who may answer for a name, and the digest of what they answer with. `allowed` is None where nobody has to be
    kept away."""

    digest: str
    allowed: frozenset[str] | None


class Spaces:
    """Which digest answers for each canonical name."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        #: What was found last, and the facts that it follows from: it holds as long as they are the very same.
        self._found: dict[str, tuple[list[object], Holders]] = {}

    def save(self) -> dict[str, str]:
        """For `restore`."""
        return dict(self._digests)

    def restore(self, digests: Mapping[str, str]) -> None:
        """What the last run held to."""
        self._digests = dict(digests)
        self._found.clear()

    def find(self, model: str, fleet: FleetView, wanted: VectorSpace | None = None) -> Holders:
        """Who may answer for a model now; `wanted` is the space of vectors that are kept already.

        Raises `ProxyError` where all that could answer have other weights.
        """
        if wanted is not None:
            return self._look(model, fleet, wanted)
        facts: list[object] = [fact for one in fleet.backends for fact in (one.spec, one.models, one.health)]
        found = self._found.get(model)
        if found is not None and len(found[0]) == len(facts) and all(map(is_, found[0], facts)):
            return found[1]
        holders = self._look(model, fleet, None)
        if len(self._found) >= _MOST_NAMES:
            self._found.clear()
        self._found[model] = facts, holders
        return holders

    def _look(self, model: str, fleet: FleetView, wanted: VectorSpace | None) -> Holders:
        digests = {
            view.spec.id: facts.digest
            for view in fleet.backends
            # One that stands in for any model has its own as well, and says so in its list.
            if (view.models is not None or not view.spec.stand_in_model)
            and (facts := find_model(view, model)) is not None
        }
        if not digests:
            held = self._digests.get(model) if wanted is None else wanted.digest
            # Who stands in has another space, and must not take the place of one that vectors are kept of.
            real = frozenset([view.spec.id for view in fleet.backends if not view.spec.stand_in_model])
            return Holders("", None) if held is None else Holders(held, real)
        digest = self._choose(model, digests, fleet) if wanted is None else wanted.digest
        allowed = frozenset([name for name, one in digests.items() if one == digest])
        serving = [view.spec.id for view in fleet.backends if view.health.serves]
        if not any(name in allowed for name in serving):
            others = [name for name in serving if name in digests]
            if others:
                raise _refuse(model, digest, others[0], digests[others[0]])
        everybody = len(allowed) == len(digests) and not any(view.spec.stand_in_model for view in fleet.backends)
        return Holders(digest, None if everybody and wanted is None else allowed)

    def check_target(self, model: str, target: str, fleet: FleetView, holders: Holders) -> None:
        """Raises `ProxyError` where a target means only backends that have other weights by that name."""
        allowed = holders.allowed
        if allowed is None:
            return
        meant = find_meant(target, fleet)
        if any(one.spec.id in allowed for one in meant):
            return
        for one in meant:
            facts = find_model(one, model)
            if facts is not None:
                raise _refuse(model, holders.digest, one.spec.id, facts.digest)

    def _choose(self, model: str, digests: dict[str, str], fleet: FleetView) -> str:
        """The digest that answers for a name: as before, else that of most which serve, the first of equals."""
        held = self._digests.get(model)
        there = list(digests.values())
        if held is not None and held in there:
            return held
        serving = [digests[view.spec.id] for view in fleet.backends if view.health.serves and view.spec.id in digests]
        candidates = serving or there
        digest = max(dict.fromkeys(candidates), key=candidates.count)
        if len(self._digests) >= _MOST_NAMES:
            self._digests.clear()
        self._digests[model] = digest
        return digest


def _refuse(model: str, digest: str, backend: str, other: str) -> ProxyError:
    told = (
        f"{backend} has other weights by the name {model[:100]!r} ({_show(other)}) than those that its vectors came "
        f"from so far ({_show(digest)}), so they could not be compared; give the other model a name of its own"
    )
    return ProxyError(ErrorKind.LIMITS_EXCLUDE_ALL, told)


def _show(digest: str) -> str:
    return f"digest {digest[:_SHOWN_DIGITS]}" if digest else "of a digest that nobody tells"
