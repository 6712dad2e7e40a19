"""Kept answers cross no border: between keys, rights, models, and whoever may look at them or throw them away."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_proxy.cache.key import Weights, find_key
from ollama_proxy.config.key_file import StoredKey, changing, hash_key, make_key
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation, Sampling
from ollama_proxy.domain.caller import Caller
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess
from tests.unit.app.caching.test_answer_cache import Scene
from tests.unit.app.requests.test_dispatch import MODEL as SCRIPTED
from tests.unit.app.requests.test_dispatch import Client

MODEL = "qwen2.5:0.5b"
GRANTS: dict[str, dict[str, Any]] = {
    "ann": {},
    "bob": {},
    "other": {"models": ["llama3:7b"]},
    "boss": {"permissions": ["admin", "infer"]},
}


class Door:
    """A proxy that asks for keys."""

    def __init__(self, work: Path, lab: LabProcess) -> None:
        path = work / "cache-keys" / "keys.json"
        path.parent.mkdir()
        self.keys = {name: make_key() for name in GRANTS}
        with changing(path) as there:
            for name, grant in GRANTS.items():
                entry = {"name": name, "key_hash": hash_key(self.keys[name].encode()), "created_unix_s": 1.0, **grant}
                there.append(msgspec.convert(entry, StoredKey))
        auth = {"enabled": True, "keys_file": str(path)}
        self.proxy = ProxyProcess(work, lab.endpoints, changes={"server": {"auth": auth}}, speed=lab.speed)

    def ask(self, name: str, path: str, document: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """The status, what the cache did, and the answer."""
        headers = {"Authorization": f"Bearer {self.keys[name]}", "X-Cache-Enabled": "true"}
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.proxy.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers.get("X-Cache"), json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("X-Cache"), error.read()


@pytest.fixture(scope="module")
def door(work: Path, lab: LabProcess) -> Iterator[Door]:
    found = Door(work, lab)
    with found.proxy:
        yield found


@pytest.mark.e2e
def test_a_key_finds_its_own_answers_only(door: Door) -> None:
    options = {"temperature": 0, "num_predict": 5}
    document = {"model": MODEL, "prompt": "Whose is it?", "stream": False, "options": options}
    found = [door.ask(name, "/api/generate", document)[1] for name in ("ann", "ann", "bob", "bob", "boss")]
    assert found == ["miss", "hit", "miss", "hit", "miss"]
    status, state, _ = door.ask("other", "/api/generate", document)
    assert (status, state) == (403, None)


@pytest.mark.e2e
def test_only_who_runs_the_proxy_looks_and_throws_away(door: Door) -> None:
    for method in ("GET", "DELETE"):
        assert door.ask("ann", "/proxy/cache", method=method)[0] == 403
    assert door.ask("boss", "/proxy/cache")[0] == 200
    document = {"model": MODEL, "prompt": "Whose is gone?", "stream": False, "options": {"temperature": 0}}
    for name in ("ann", "bob"):
        door.ask(name, "/api/generate", document)
    _, _, gone = door.ask("boss", "/proxy/cache?key=ann", method="DELETE")
    assert gone["purged"] >= 1
    assert [door.ask(name, "/api/generate", document)[1] for name in ("ann", "bob")] == ["miss", "hit"]


def test_what_collides_in_pieces_is_not_the_same() -> None:
    """Where one text ends and the next begins is part of the key."""
    secret, weights = bytes(32), Weights(("d",))
    asked = [
        (Caller("a"), Generation("bc", system="d")),
        (Caller("a"), Generation("b", system="cd")),
        (Caller("ab"), Generation("c", system="d")),
        (Caller("a"), Generation("bcd")),
        (Caller("a"), Generation(system="bcd")),
        (Caller("a"), Generation("bc", suffix="d")),
        (Caller("a"), Generation("bc", sampling=Sampling(stop=("d",)))),
        (Caller("a"), Generation("bc", sampling=Sampling(stop=("", "d")))),
        (Caller("a", models=("bc",)), Generation("d")),
        (Caller("a", backends=frozenset({"bc"})), Generation("d")),
        (Caller("a", backends=frozenset()), Generation("d")),
        (Caller("a"), Generation("d")),
    ]
    keys = {find_key(secret, caller, weights, Operation.GENERATE, one) for caller, one in asked}
    assert len(keys) == len(asked)
    other = find_key(bytes([1] * 32), *_unpack(asked[0], weights))
    assert other not in keys, "another secret makes other keys"


def _unpack(asked: tuple[Caller, Generation], weights: Weights) -> tuple[Caller, Weights, Operation, Generation]:
    return asked[0], weights, Operation.GENERATE, asked[1]


@pytest.mark.long
def test_nobody_learns_from_the_time_what_others_have_asked() -> None:
    """Until the backend is asked it takes as long for a prompt that another key has in the cache as for a fresh one."""
    scene, dice = Scene(), random.Random(5)
    asker, owner = Caller("asker"), Caller("owner")
    samples: list[tuple[int, bool]] = []
    for number in range(4000):
        is_known = dice.random() < 0.5
        if is_known:
            scene.ask(f"prompt {number}", caller=owner)
            scene.answer()
        else:
            scene.ask(f"something else {number}", caller=owner)
            scene.answer()
        generation = Generation(f"prompt {number}", sampling=Sampling(temperature=0.0))
        call = Call(
            f"t{number}",
            Dialect.COMPUTE,
            Operation.GENERATE,
            SCRIPTED,
            True,
            0.0,
            lambda one=generation: one,  # type: ignore[misc]
            Annotations(cache_enabled=True),
            prompt_bytes=9,
            caller=asker,
        )
        client = Client()
        began_ns = time.perf_counter_ns()
        ticket = scene.cache.submit(call, client)
        took_ns = time.perf_counter_ns() - began_ns
        ticket.cancel()
        assert client.route is None
        samples.append((took_ns, is_known))
    assert abs(_mann_whitney_z(samples)) < 3.3, "a difference in time at p < 0.001"


def _mann_whitney_z(samples: list[tuple[int, bool]]) -> float:
    ranked = sorted(samples)
    known = [place for place, (_, is_known) in enumerate(ranked, 1) if is_known]
    count, others = len(known), len(samples) - len(known)
    u = sum(known) - count * (count + 1) / 2
    spread = (count * others * (count + others + 1) / 12) ** 0.5
    return (u - count * others / 2) / spread
