"""What the store keeps, for how long, and what it never gives to the wrong one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.api.responses.store import ResponseStore, StoredResponse, StoreLimits


class Clock:
    """A clock that is set."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def stored(ident: str, size: int = 0) -> StoredResponse:
    return StoredResponse(ident, b"x" * size, (b"{}",))


def make(**limits: float) -> tuple[ResponseStore, Clock]:
    clock = Clock()
    return ResponseStore(StoreLimits(**limits), clock), clock  # type: ignore[arg-type]


def test_what_is_put_in_comes_out_until_it_is_deleted() -> None:
    store, _ = make()
    assert store.put("", stored("resp_1"))
    assert store.get("", "resp_1") == stored("resp_1")
    assert store.delete("", "resp_1")
    assert store.get("", "resp_1") is None
    assert not store.delete("", "resp_1")
    assert store.size == 0


def test_callers_do_not_see_each_other() -> None:
    store, _ = make()
    store.put("ada", stored("resp_1"))
    assert store.get("bob", "resp_1") is None
    assert not store.delete("bob", "resp_1")
    assert store.put("bob", stored("resp_1"))
    assert store.get("ada", "resp_1") is not None


def test_an_id_that_was_given_twice_stands_for_neither() -> None:
    store, clock = make(ttl_s=10.0)
    store.put("", stored("resp_1", 5))
    assert not store.put("", stored("resp_1", 9))
    assert store.get("", "resp_1") is None
    assert not store.put("", stored("resp_1", 9))
    clock.now_s += 10
    assert store.put("", stored("resp_1", 9)), "the id is free again when both would be gone"


def test_age_ends_an_answer() -> None:
    store, clock = make(ttl_s=10.0)
    store.put("", stored("resp_1"))
    clock.now_s += 9.9
    assert store.get("", "resp_1") is not None
    clock.now_s += 0.1
    assert store.get("", "resp_1") is None
    store.put("", stored("resp_2"))
    assert len(store) == 1


def test_the_oldest_make_room() -> None:
    store, _ = make(entries=2)
    for name in ("resp_1", "resp_2", "resp_3"):
        store.put("", stored(name))
    assert [store.get("", name) is not None for name in ("resp_1", "resp_2", "resp_3")] == [False, True, True]


def test_a_store_of_nothing_keeps_nothing() -> None:
    store, _ = make(entries=0)
    assert not store.put("", stored("resp_1"))
    assert len(store) == 0


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4000), st.booleans()), max_size=60),
    most=st.integers(600, 8000),
)
def test_the_bounds_hold_whatever_comes(steps: list[tuple[str, int, bool]], most: int) -> None:
    store, clock = make(entries=4, bytes=most, ttl_s=20.0)
    for name, size, deletes in steps:
        clock.now_s += 1
        if deletes:
            store.delete("", name)
        else:
            store.put("", stored(name, size))
        assert len(store) <= 4
        assert 0 <= store.size <= most
        assert (len(store) == 0) == (store.size == 0)
