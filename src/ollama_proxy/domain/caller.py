"""Whose request it is, and what they may do, use and see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from .names import canonical_model, matches_pattern
from .quota import Quota

if TYPE_CHECKING:
    from .device import BackendView, FleetView

#: What a request takes: nothing, any key at all, or one that may have answers from models, change which models there
#: are, run the proxy.
Permission = Literal["open", "key", "infer", "models", "admin"]
EVERYTHING: frozenset[str] = frozenset(("infer", "models", "admin"))


class Caller:
    """Who asks. Compared by identity: as long as a key is as it was, all its requests have the same one.

    `models` are patterns of names, empty for all; `backends` ids, None for all. They are limits of every attempt.
    """

    __slots__ = ("backends", "continues", "is_free", "is_live", "models", "name", "permissions", "quota")

    def __init__(
        self,
        name: str = "",
        permissions: frozenset[str] = EVERYTHING,
        models: tuple[str, ...] = (),
        backends: frozenset[str] | None = None,
        quota: Quota | None = None,
        *,
        continues: bool = True,
    ) -> None:
        #: The key's, never the key itself; "" for anybody.
        self.name = name
        self.permissions = permissions
        self.models = models
        self.backends = backends
        self.quota = quota
        #: Whether a stream of its may go on at another backend, as far as the key says.
        self.continues = continues
        #: False from the moment on that the key is revoked, over or changed.
        self.is_live = True
        #: Keys are not checked any more: whoever had this one may do what everybody may.
        self.is_free = False

    def set_free(self) -> None:
        """From now on keys are not checked. When they are again, this one is looked up anew."""
        self.is_live, self.is_free = False, True
        self.permissions, self.models, self.backends, self.quota = EVERYTHING, (), None, None
        self.continues = True

    def identify(self) -> tuple[str, list[str], tuple[str, ...], list[str] | None]:
        """Whose request it is, with all that the key may do: a key that may do something else is somebody else."""
        backends = None if self.backends is None else sorted(self.backends)
        return self.name, sorted(self.permissions), self.models, backends

    def may_use(self, model: str) -> bool:
        """Whether a model, however it is written, is one of those that are allowed."""
        if not self.models:
            return True
        name = canonical_model(model)
        return any(matches_pattern(name, pattern) for pattern in self.models)

    @property
    def sees_all(self) -> bool:
        """Whether every model and every backend is there for this caller."""
        return not self.models and self.backends is None

    def see(self, view: FleetView) -> FleetView:
        """The fleet as far as it is there for this caller; the very same where all of it is."""
        if self.sees_all:
            return view
        places = [
            place for place, one in enumerate(view.backends) if self.backends is None or one.spec.id in self.backends
        ]
        waits = tuple([view.waits[place] for place in places]) if view.waits else view.waits
        backends = tuple([self._see_backend(view.backends[place]) for place in places])
        return msgspec.structs.replace(view, backends=backends, waits=waits)

    def _see_backend(self, view: BackendView) -> BackendView:
        if not self.models:
            return view
        models = view.models and {name: facts for name, facts in view.models.items() if self.may_use(name)}
        return msgspec.structs.replace(
            view,
            models=models,
            loaded=frozenset([name for name in view.loaded if self.may_use(name)]),
            loaded_entries=tuple([one for one in view.loaded_entries if self.may_use(_name_of(one))]),
            rates={name: rates for name, rates in view.rates.items() if self.may_use(name)},
            kept_out={name: kept for name, kept in view.kept_out.items() if not name or self.may_use(name)},
        )


def _name_of(entry: Mapping[str, object]) -> str:
    return str(entry.get("name") or entry.get("model") or "")


#: Whoever asks where no keys are checked.
ANYBODY = Caller()
