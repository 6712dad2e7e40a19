"""What is kept over restarts: read back as it was, older and less certain; files that cannot be used harm nobody."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from ollama_proxy.app.energy.accounting import Accounting
from ollama_proxy.app.learned import Memory
from ollama_proxy.backends.ollama.backend import OllamaBackend
from ollama_proxy.config.schema import Learning
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.fleet.embed_speeds import EmbedSpeeds
from ollama_proxy.fleet.lengths import LengthBook, PromptRatio
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.net.http1.client import Origin, OriginPool

SPEC = BackendSpec("a", "ollama", "a", "cpu", 10, 500, 10)


class Learnt:
    """As much of a dispatcher as the memory looks at."""

    def __init__(self, *, emulated: bool = False) -> None:
        self.fleet_state = Fleet()
        self.fleet_state.add(SPEC, frozenset((Need.GENERATE,)))
        self.fleet_state.probed("a", ProbeReport({}, emulated=emulated), 0)
        self.lengths = LengthBook()
        self.prompts = PromptRatio()
        self.accounting = Accounting(self.fleet_state)
        self.budget = HourlyBudget(10)
        self.backends = {"a": OllamaBackend(SPEC, OriginPool(Origin("127.0.0.1", 9)))}

    def clock(self) -> float:
        return 1000.0


def memory(path: Path, learnt: Learnt) -> Memory:
    return Memory(Learning(path=str(path)), learnt)  # type: ignore[arg-type]


def teach(path: Path) -> Learnt:
    learnt = Learnt()
    for _ in range(20):
        learnt.fleet_state.succeeded("a", "m:1b", Observation(1.0, 40.0, 100, 3.0), 1000.0)
        learnt.lengths.learn("m:1b", "ollama", "", 700)
        learnt.prompts.learn("m:1b", 1000, 400)
    learnt.fleet_state.age(1001.0)  # what a moment taught is shown when it is over
    memory(path, learnt).save()
    return learnt


@pytest.mark.parametrize("emulated", [False, True])
def test_how_fast_vectors_are_made_is_there_after_a_restart(tmp_path: Path, emulated: bool) -> None:
    before, after = EmbedSpeeds(), EmbedSpeeds()
    for units in (1000, 4000, 2000, 8000):
        before.learn("a", "minilm", units, 0.1 + units / 10_000)
    learning = Learning(path=str(tmp_path / "learned.json"))
    Memory(learning, Learnt(emulated=emulated), embed_speeds=before).save()  # type: ignore[arg-type]
    Memory(learning, Learnt(), embed_speeds=after).recall()  # type: ignore[arg-type]
    speed = after.find("a", "minilm")
    if emulated:
        assert speed is None, "it teaches nothing of the real one"
        return
    assert speed is not None
    assert (speed.fixed_s, speed.s_per_unit) == (pytest.approx(0.1), pytest.approx(1 / 10_000))
    for one in (before, after):
        one.learn("a", "minilm", 4000, 5.0)
    assert after.find("a", "minilm").s_per_unit > before.find("a", "minilm").s_per_unit, "what is new counts for more"  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["0", "-1", "1e999"])
def test_speeds_that_cannot_be_true_are_left_out(tmp_path: Path, number: str) -> None:
    path, after = tmp_path / "learned.json", EmbedSpeeds()
    line = f'{{"count": 1, "x": {number}, "y": 1, "xx": 1, "xy": 1}}'
    path.write_text(
        '{"version": 1, "saved_unix_s": 0, "rates": {}, "lengths": [], "tokens_per_byte": {}, '
        f'"embed_speeds": {{"a": {{"m": {line}}}}}}}'
    )
    Memory(Learning(path=str(path)), Learnt(), embed_speeds=after).recall()  # type: ignore[arg-type]
    assert after.find("a", "m") is None


def test_what_was_learned_is_there_after_a_restart_but_less_certain(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "learned.json"
    before = teach(path)
    after = Learnt()
    memory(path, after).recall()
    old, new = (one.fleet_state.look("a").rates["m:1b"] for one in (before, after))
    assert new.decode_tps == pytest.approx(old.decode_tps)
    assert (new.prefill_tps, new.load_s) == (pytest.approx(old.prefill_tps), pytest.approx(3.0))
    assert (new.samples, new.decode_samples) == (20, 20)
    assert new.decode_var > old.decode_var
    assert after.lengths.expect("m:1b", "ollama", "").mean() == pytest.approx(
        before.lengths.expect("m:1b", "ollama", "").mean(), rel=0.05
    )
    assert after.prompts.expect("m:1b", 1000) == pytest.approx(before.prompts.expect("m:1b", 1000), rel=0.001)


def test_what_the_hour_has_cost_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    before = Learnt()
    before.budget.spend(7200.0, 990.0)
    memory(path, before).save()
    after, told = Learnt(), Learnt()
    memory(path, after).recall()
    assert after.budget.spent_wh(1000.0) == pytest.approx(2.0)
    assert after.budget.spent_wh(1000.0 + 3700) == 0
    told.budget.spend(3600.0, 900.0)
    memory(path, told).recall()
    assert told.budget.spent_wh(1000.0) == pytest.approx(1.0), "a ledger knows better"


def test_an_emulated_device_teaches_nothing_of_the_real_one(tmp_path: Path) -> None:
    teach(tmp_path / "learned.json")
    after = Learnt(emulated=True)
    memory(tmp_path / "learned.json", after).recall()
    assert after.fleet_state.look("a").rates == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 9, "x": 1}', b"\xff" * 100])
def test_a_file_that_cannot_be_used_is_told_and_put_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learned.json"
    path.write_bytes(content)
    after = Learnt()
    with caplog.at_level(logging.WARNING):
        memory(path, after).recall()
    assert "learning starts anew" in caplog.text
    memory(path, after).save()
    assert "is put aside as learned.json.unread" in caplog.text
    assert (tmp_path / "learned.json.unread").read_bytes() == content
    assert after.fleet_state.look("a").rates == {}


def test_a_newer_version_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teach(tmp_path / "learned.json")
    document = msgspec.json.decode((tmp_path / "learned.json").read_bytes())
    (tmp_path / "learned.json").write_bytes(msgspec.json.encode(document | {"version": 2}))
    with caplog.at_level(logging.WARNING):
        memory(tmp_path / "learned.json", Learnt()).recall()
    assert "has version 2, this program knows 1" in caplog.text


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    kept = memory(tmp_path / "file" / "learned.json", Learnt())
    with caplog.at_level(logging.WARNING):
        kept.save()
        kept.save()
    assert caplog.text.count("cannot be kept") == 1


def test_what_a_backend_found_out_about_models_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    before, after = Learnt(), Learnt()
    before.backends["a"].restore_lessons({"sha256:1@0.24.0": True, "sha256:2@0.24.0": False})
    memory(path, before).save()
    memory(path, after).recall()
    assert after.backends["a"].save_lessons() == {"sha256:1@0.24.0": True, "sha256:2@0.24.0": False}
