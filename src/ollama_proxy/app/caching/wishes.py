"""Which requests use the cache, and what makes each of them the same as another."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from ollama_proxy.app.caching.weights import find_makers, find_weights
from ollama_proxy.cache.key import Weights, find_key, is_deterministic
from ollama_proxy.config.sections.cache import Cache
from ollama_proxy.domain.call import Call, Generation
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.names import canonical_model, matches_pattern
from ollama_proxy.net.bodies.members import find_loss


class Asked(msgspec.Struct, frozen=True):
    """A request that the cache can answer: its key, and what that was made of; and its company, those that may be told
    its answer while it is made."""

    key: bytes
    company: Hashable
    model: str
    weights: Weights
    generation: Generation


class Wishes:
    """What requests say, and the configuration where they say nothing."""

    def __init__(self, settings: Cache) -> None:
        self._settings = settings

    def is_asked(self, call: Call) -> bool:
        """Whether a request is to use the cache."""
        wish = call.annotations.cache_enabled
        if wish is not None:
            return wish
        return call.caller.name in self._settings.keys or any(
            matches_pattern(canonical_model(call.model), pattern) for pattern in self._settings.models
        )

    def read(self, call: Call, view: FleetView, secret: bytes) -> Asked | str:
        """What the cache has to know of a request; why it cannot answer it otherwise, as a clause."""
        loss = find_loss(call)
        if loss:
            return loss
        try:
            generation = call.typed()
        except ProxyError:
            # Whoever is asked says what is wrong with it.
            return "it is not understood"
        if not isinstance(generation, Generation):
            return "it asks for no text"
        if not self._may_be_sampled(call, generation):
            return "its answer is drawn anew each time: it has neither temperature 0 nor a seed"
        model = canonical_model(call.model)
        weights = find_weights(find_makers(view, call, model), model, call.annotations.target)
        key = find_key(secret, call.caller, weights, call.operation, generation)
        if key is None:
            return "it holds what no key can be made of"
        return Asked(key, find_company(call, model), model, weights, generation)

    def _may_be_sampled(self, call: Call, generation: Generation) -> bool:
        rule = self._settings.sampled
        if is_deterministic(generation.sampling) or rule == "always":
            return True
        return rule == "asked" and call.annotations.cache_enabled is True


def find_company(call: Call, model: str) -> Hashable:
    """What requests of one key have in common that may wait for one answer: all that says where, whether and when it is
    made. Whoever comes with other limits or another rank is neither refused nor kept waiting by these.

    Streams are apart, since they are not to wait for an answer that comes whole; so are names of models, since equal
    weights need not be on the same backends. What clients note for themselves (`custom`) decides nothing.
    """
    wishes = msgspec.structs.replace(call.annotations, cache_enabled=None, custom=None)
    return call.stream, model, call.needs, call.wants, msgspec.structs.astuple(wishes)
