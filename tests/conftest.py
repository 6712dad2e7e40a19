"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.lab import LabProcess
from tests.support.ollama import RealOllama, find_ollama
from tests.support.proxy import ProxyProcess

# How long an example takes is the machine's affair; pytest's own limit still ends what hangs.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Only called where there are workers."""
    from tests.support.workers import ByModule

    config.option.loadscopereorder = False
    return ByModule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After pytest-randomly: the order stays random among tests of one rank."""
    if hasattr(config, "workerinput"):
        from tests.support.workers import rank

        items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test teaches a proxy may reach the tester's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the logs and files of long-lived processes."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def lab(work: Path) -> Iterator[LabProcess]:
    """Four emulated devices, twenty times faster than life, shared; tests that switch faults switch them off again."""
    with LabProcess(work, speed=20) as process:
        yield process


@pytest.fixture(scope="session")
def lab_proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """A proxy in front of the shared lab."""
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed) as process:
        yield process


@pytest.fixture(autouse=True)
def closed_breakers(request: pytest.FixtureRequest) -> None:
    """A proxy that tests share keeps nobody out any more for what the test before broke."""
    names = [name for name in ("lab_proxy", "proxy") if name in request.fixturenames]
    proxies = [one for one in map(request.getfixturevalue, names) if isinstance(one, ProxyProcess)]
    for one in proxies:
        one.wait_for_breakers()


@pytest.fixture(scope="session")
def embedded_proxy(work: Path) -> Iterator[ProxyProcess]:
    """A proxy with nothing behind it but the embedded model."""
    with ProxyProcess(work, embedded="auto") as process:
        yield process


@pytest.fixture(scope="session")
def ollamas(work: Path) -> Iterator[RealOllama]:
    """Four real Ollama servers; skips where none is installed."""
    binary = find_ollama()
    if binary is None:
        pytest.skip("no ollama binary: bin/test installs one where Go and a C++ compiler are")
    with RealOllama(binary, work) as servers:
        yield servers


@pytest.fixture(scope="session")
def ollama_proxy_process(ollamas: RealOllama, work: Path) -> Iterator[ProxyProcess]:
    """A proxy in front of four real Ollama servers."""
    with ProxyProcess(work, endpoints=ollamas.endpoints, embedded="never") as process:
        yield process
