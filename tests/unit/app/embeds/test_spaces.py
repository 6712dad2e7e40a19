"""Whose weights answer for a name."""

from __future__ import annotations

import pytest

from ollama_proxy.app.embeds.spaces import Spaces
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.vectors import VectorSpace

M = "m:1"


def backend(
    name: str, digest: str | None, *, health: Health = Health.HEALTHY, stand_in: str = "", kind: str = "ollama"
) -> BackendView:
    """With a digest it has the model; with None it has none."""
    models = {} if digest is None else {M: ModelFacts(M, digest)}
    return BackendView(BackendSpec(name, kind, name, "cpu", stand_in_model=stand_in), health, models=models)


def fleet(*views: BackendView) -> FleetView:
    return FleetView(1, views)


def test_where_all_have_the_same_nobody_is_kept_away() -> None:
    found = Spaces().find(M, fleet(backend("a", "x"), backend("b", "x"), backend("c", None)))
    assert (found.digest, found.allowed) == ("x", None)


def test_most_win_at_first_and_keep_it() -> None:
    spaces = Spaces()
    assert spaces.find(M, fleet(backend("a", "x"), backend("b", "y"), backend("c", "y"))).allowed == {"b", "c"}
    # Later there are more of the others.
    later = fleet(backend("a", "x"), backend("b", "y"), backend("d", "x"))
    assert spaces.find(M, later).allowed == {"b"}
    # When nobody has them any more, the others follow.
    assert spaces.find(M, fleet(backend("a", "x"), backend("d", "x"))).digest == "x"


def test_those_that_serve_count_and_the_first_of_equals_wins() -> None:
    down = backend("a", "x", health=Health.UNHEALTHY)
    assert Spaces().find(M, fleet(down, backend("b", "y"))).digest == "y"
    assert Spaces().find(M, fleet(backend("b", "y"), backend("a", "x"))).digest == "y"


def test_an_unknown_digest_is_a_space_of_its_own() -> None:
    spaces = Spaces()
    assert spaces.find(M, fleet(backend("a", ""), backend("b", ""))).allowed is None
    assert spaces.find(M, fleet(backend("a", ""), backend("b", "x"))).allowed == {"a"}


def test_where_only_others_could_answer_that_is_refused() -> None:
    spaces = Spaces()
    spaces.find(M, fleet(backend("a", "x" * 64)))
    now = fleet(backend("a", "x" * 64, health=Health.UNHEALTHY), backend("b", "y" * 64))
    with pytest.raises(ProxyError) as caught:
        spaces.find(M, now)
    assert caught.value.kind is ErrorKind.LIMITS_EXCLUDE_ALL
    assert "b has other weights by the name 'm:1' (digest yyyyyyyyyyyy)" in caught.value.message
    assert "(digest xxxxxxxxxxxx)" in caught.value.message
    assert spaces.find(M, now, VectorSpace(M, "y" * 64, 4)).allowed == {"b"}


def test_a_stand_in_is_for_names_that_never_had_a_space() -> None:
    spaces = Spaces()
    stand_in = backend("e", None, stand_in="small:1")
    assert spaces.find(M, fleet(backend("a", None), stand_in)).allowed is None
    assert spaces.find(M, fleet(backend("a", "x"), stand_in)).allowed == {"a"}
    assert spaces.find(M, fleet(backend("a", None), stand_in)).allowed == {"a"}
    again = Spaces()
    again.restore(spaces.save())
    assert again.find(M, fleet(backend("a", None), stand_in)).allowed == {"a"}


def test_its_own_model_is_a_stand_ins_like_any_other() -> None:
    own = BackendView(
        BackendSpec("e", "openai", "e", "cpu", stand_in_model=M), Health.HEALTHY, models={M: ModelFacts(M, "")}
    )
    assert Spaces().find(M, fleet(own)).allowed == {"e"}


def test_what_was_found_holds_only_while_nothing_changes() -> None:
    spaces = Spaces()
    first = fleet(backend("a", "x"), backend("b", "x"))
    assert spaces.find(M, first) is spaces.find(M, FleetView(2, first.backends))
    assert spaces.find(M, fleet(first.backends[0], backend("b", "y"))).allowed == {"a"}
