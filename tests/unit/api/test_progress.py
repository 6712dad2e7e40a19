"""Progress of several servers told as one: the slowest counts, each status once, one end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.api.ollama.pins import Pins
from ollama_proxy.api.ollama.progress import MergedProgress

_PULLING = "pulling aaaaaaaaaaaa"


def step(completed: int, digest: str = "sha256:aa", total: int = 100) -> dict[str, Any]:
    line: dict[str, Any] = {"status": _PULLING, "digest": digest, "total": total}
    return {**line, "completed": completed} if completed else line


def test_the_slowest_server_is_what_is_told() -> None:
    merged = MergedProgress(["a", "b"])
    assert merged.take("a", {"status": "pulling manifest"}) == [{"status": "pulling manifest"}]
    assert merged.take("b", {"status": "pulling manifest"}) == []
    assert merged.take("a", step(0)) == [step(0)]
    assert merged.take("a", step(80)) == []
    assert merged.take("b", step(30)) == [step(30)]
    assert merged.take("b", step(90)) == [step(80)]
    assert merged.take("a", step(100)) == [step(90)]
    assert merged.take("b", step(100)) == [step(100)]
    assert merged.take("b", step(100)) == []
    for server in ("a", "b"):
        assert merged.take(server, {"status": "success"}) == []
        assert merged.end(server) == []
    assert merged.over
    assert merged.ending() == {"status": "success"}
    assert merged.changed == ("a", "b")


def test_a_server_that_has_a_layer_already_does_not_hold_it_back() -> None:
    merged = MergedProgress(["a", "b"])
    merged.take("a", step(50))
    assert merged.take("b", {"status": "success"}) == []
    assert merged.end("b") == [step(50)]


def test_a_server_that_fails_holds_nobody_back_and_is_named_in_the_end() -> None:
    merged = MergedProgress(["a", "b"])
    merged.take("a", step(50))
    merged.take("b", step(10))
    assert merged.take("b", {"error": "no space left"}) == [step(50)]
    assert merged.take("a", {"status": "success"}) == []
    merged.end("a")
    assert merged.over
    assert merged.ending() == {"error": "b: no space left (done on a)"}
    assert merged.changed == ("a",)


def test_what_all_say_alike_is_said_in_their_words() -> None:
    merged = MergedProgress(["a", "b"])
    for server in ("a", "b"):
        assert merged.take(server, {"error": "file does not exist"}) == []
        assert merged.end(server) == []
    assert merged.ending() == {"error": "file does not exist"}
    other = MergedProgress(["a", "b"])
    other.fail("a", "x")
    other.fail("b", "y")
    assert other.ending() == {"error": "a: x; b: y"}


def test_a_stream_that_ends_without_success_has_failed() -> None:
    merged = MergedProgress(["a"])
    merged.take("a", {"status": "writing manifest"})
    merged.end("a")
    assert merged.ending() == {"error": "the answer ended before the work did"}


@given(st.data())
def test_whatever_the_order_counts_only_grow_and_never_pass_the_slowest(data: st.DataObject) -> None:
    servers = ("a", "b", "c")
    waiting = {
        server: [step(count) for count in sorted(data.draw(st.sets(st.integers(0, 100))) | {100})]
        + [{"status": "success"}]
        for server in servers
    }
    reached = dict.fromkeys(servers, 0)
    merged, told = MergedProgress(servers), -1
    while any(waiting.values()):
        server = data.draw(st.sampled_from([one for one in servers if waiting[one]]))
        line = waiting[server].pop(0)
        reached[server] = line.get("completed", reached[server])
        for out in merged.take(server, line) + ([] if waiting[server] else merged.end(server)):
            count = out.get("completed", 0)
            assert told < count <= min(reached.values())
            told = count
    assert told == 100
    assert merged.ending() == {"status": "success"}


def test_pins_are_kept_for_an_hour_and_no_more_than_so_many() -> None:
    pins = Pins()
    pins.add("sha256-aa", ["x", "y"], 0.0)
    pins.add("sha256:bb", ["y"], 10.0)
    assert pins.find(["sha256:aa"], 20.0) == ("x", "y")
    assert pins.find(["sha256:aa", "sha256:bb"], 20.0) == ("y",)
    assert pins.find(["sha256:aa", "sha256:cc"], 20.0) == ()
    assert pins.find(["sha256:aa"], 3601.0) == ()
    assert pins.find([], 0.0) == ()
    for number in range(5000):
        pins.add(f"sha256:{number}", ["x"], 20.0)
    assert len(pins._found) == 4096
    pins.add("sha256:late", ["x"], 4000.0)
    assert len(pins._found) == 1
