"""Another configuration while requests run: all of it at once, or nothing and a sentence why."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support.dripping import DrippingOllama
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, free_port, http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.steady import SteadyLoad

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"


@pytest.fixture
def proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """A proxy of this test's own in front of the shared lab; it reads its file only when it is told to."""
    told = {"process": {"reload_on_change": False}}
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=told) as process:
        yield process


def read(proxy: ProxyProcess) -> Any:
    return yaml.safe_load(proxy.config_path.read_text())


def write(proxy: ProxyProcess, config: Any) -> None:
    proxy.config_path.write_text(yaml.safe_dump(config, sort_keys=False))


def reload(proxy: ProxyProcess) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(proxy.url + "/proxy/reload", b"", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def backends(proxy: ProxyProcess) -> dict[str, Any]:
    status, text = http_get(proxy.url + "/backends", {"Accept": "application/json"})
    assert status == 200, text
    return {one["id"]: one for one in json.loads(text)["backends"]}


def generate(proxy: ProxyProcess, **fields: Any) -> tuple[str, list[dict[str, Any]]]:
    """The backend that answered, and the lines of its answer."""
    body = json.dumps({"model": MODEL, "prompt": "hi"} | fields).encode()
    with urllib.request.urlopen(proxy.url + "/api/generate", body, timeout=60) as answer:
        return answer.headers["X-Backend-Used"], [json.loads(line) for line in answer]


def test_a_signal_brings_the_whole_file_into_force(proxy: ProxyProcess) -> None:
    generate(proxy, options={"num_predict": 20})
    before = backends(proxy)
    used = next(name for name, one in before.items() if one.get("learned"))
    config = read(proxy)
    gone = next(one for one in config["backends"] if one["id"] not in (used, config["routing"]["default_backend"]))
    config["backends"].remove(gone)
    newcomer = gone | {"id": "newcomer"}
    config["backends"].insert(0, newcomer)
    renewed = next(one for one in config["backends"] if one["id"] == used)
    renewed["characteristics"]["power_watts"] = 41.5
    write(proxy, config)
    proxy.child.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "newcomer" in backends(proxy), "the reload")
    after = backends(proxy)
    assert list(after) == [one["id"] for one in config["backends"]]
    # Whoever is new is asked before it is shown to anybody.
    assert after["newcomer"]["state"] == "healthy"
    # What was learned of a server outlasts another description of it.
    assert after[used]["learned"] == before[used]["learned"]
    assert after[used]["power_watts"] == 41.5
    [line] = proxy.log_lines(r"reload \(SIGHUP\)")
    told = json.loads(line)["message"]
    for part in (f"backends[{used}].characteristics.power_watts", "backends[newcomer] added", "removed"):
        assert part in told
    assert "41.5" not in told


def test_a_file_that_changes_is_taken_up_by_itself(lab: LabProcess, work: Path) -> None:
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed) as proxy:
        config = read(proxy)
        config["backends"].pop()
        write(proxy, config)
        wait_until(lambda: len(backends(proxy)) == 3, "the reload")
        assert proxy.log_lines(r"reload \(a file has changed\): backends\[ollama-cpu\] removed")


def test_what_cannot_be_used_changes_nothing_and_is_told_in_the_words_of_check(proxy: ProxyProcess) -> None:
    config = read(proxy)
    config["routing"]["policy"] = "fastestest"
    config["backends"].pop()
    write(proxy, config)
    check = subprocess.run(
        [sys.executable, "-P", "-m", "ollama_proxy", "check", str(proxy.config_path)],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert reload(proxy) == (400, {"error": check.stderr.strip()})
    assert len(backends(proxy)) == 4
    [line] = proxy.log_lines("nothing has changed")
    assert check.stderr.strip() in json.loads(line)["message"]


def test_a_key_that_is_taken_out_opens_nothing_any_more(proxy: ProxyProcess) -> None:
    config = read(proxy)
    keys = {name: "sk-ocp-" + name * 20 for name in ("ada", "bob")}
    hashes = {name: "sha256:" + hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}

    def allow(*names: str) -> None:
        entries = {name: {"key_hash": hashes[name], "permissions": ["infer", "admin"]} for name in names}
        config["server"]["auth"] = {"enabled": True, "api_keys": entries}
        write(proxy, config)

    def look(name: str) -> int:
        return http_get(proxy.url + "/backends", {"Authorization": f"Bearer {keys[name]}"})[0]

    def reload_as(name: str) -> int:
        headers = {"Authorization": f"Bearer {keys[name]}"} if name else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(proxy.url + "/proxy/reload", b"", headers), timeout=20
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    allow("ada", "bob")
    proxy.child.process.send_signal(signal.SIGHUP)
    wait_until(lambda: http_get(proxy.url + "/backends")[0] == 401, "the keys")
    assert (look("ada"), look("bob")) == (200, 200)
    allow("ada")
    assert (reload_as(""), reload_as("ada")) == (401, 200)
    assert (look("ada"), look("bob")) == (200, 401)


def test_what_takes_a_restart_is_named_and_the_rest_waits_for_it(proxy: ProxyProcess) -> None:
    config = read(proxy)
    config["learning"] = {"keep": False}
    config["backends"].pop()
    write(proxy, config)
    assert reload(proxy) == (400, {"error": "needs a restart: learning.keep"})
    assert len(backends(proxy)) == 4


def test_a_stream_keeps_its_backend_when_that_is_taken_out(proxy: ProxyProcess) -> None:
    body = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 200}}).encode()
    request = urllib.request.Request(proxy.url + "/api/generate", body, {"X-Target-Backend": "ollama-igpu"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = [json.loads(answer.readline())]
        config = read(proxy)
        config["backends"] = [one for one in config["backends"] if one["id"] != "ollama-igpu"]
        config["routing"]["default_backend"] = "ollama-npu"
        write(proxy, config)
        status, told = reload(proxy)
        assert (status, told["changed"]) == (200, ["backends[ollama-igpu] removed", "routing.default_backend"])
        assert "ollama-igpu" not in backends(proxy)
        lines += [json.loads(line) for line in answer]
    assert lines[-1]["done"]
    assert lines[-1]["eval_count"] == 200
    assert answer.headers["X-Backend-Used"] == "ollama-igpu"


def test_a_port_moves_and_what_runs_on_the_old_one_ends_well(proxy: ProxyProcess) -> None:
    body = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 100}}).encode()
    with urllib.request.urlopen(proxy.url + "/api/generate", body, timeout=60) as answer:
        answer.readline()
        config = read(proxy)
        old, config["server"]["http_port"] = config["server"]["http_port"], free_port()
        write(proxy, config)
        assert reload(proxy) == (200, {"changed": ["server.http_port"]})
        assert http_get(f"http://127.0.0.1:{config['server']['http_port']}/healthz") == (200, "ok\n")
        assert http_get(f"http://127.0.0.1:{old}/healthz")[0] == 0
        assert json.loads(answer.read().splitlines()[-1])["done"]


def test_a_port_that_cannot_be_had_changes_nothing(lab: LabProcess, proxy: ProxyProcess) -> None:
    config = read(proxy)
    taken = config["server"]["http_port"] = lab.control_port
    config["backends"].pop()
    write(proxy, config)
    status, told = reload(proxy)
    assert (status, told["error"].partition(";")[0]) == (400, f"port {taken} (http) is in use")
    assert len(backends(proxy)) == 4


def test_the_same_port_at_another_address_takes_a_restart(proxy: ProxyProcess) -> None:
    config = read(proxy)
    config["server"]["host"] = "localhost"
    write(proxy, config)
    status, told = reload(proxy)
    assert (status, told["error"].partition(",")[0]) == (
        400,
        f"needs a restart: port {proxy.http_port} is open at 127.0.0.1",
    )


def test_two_ports_change_places(proxy: ProxyProcess) -> None:
    config = read(proxy)
    server = config["server"]
    server["http_port"], server["grpc_port"] = server["grpc_port"], server["http_port"]
    write(proxy, config)
    assert reload(proxy) == (200, {"changed": ["server.grpc_port", "server.http_port"]})
    assert http_get(f"http://127.0.0.1:{proxy.grpc_port}/healthz") == (200, "ok\n")
    with pytest.raises(http.client.BadStatusLine, match="this port speaks HTTP/2"):
        http_get(f"http://127.0.0.1:{proxy.http_port}/healthz")


@pytest.fixture(scope="module")
def upstream() -> Iterator[DrippingOllama]:
    with DrippingOllama(0.02) as server:
        yield server


@contextmanager
def start(upstream: DrippingOllama, work: Path) -> Iterator[ProxyProcess]:
    """Four backends, which are one server: only what the proxy does can fail a request."""
    entries = [{"id": f"b{number}", "endpoint": upstream.url} for number in range(4)]
    told = {"process": {"reload_on_change": False}}
    with ProxyProcess(work, changes=told, replace={"backends": entries, "routing": {}}) as proxy:
        yield proxy


def shake(proxy: ProxyProcess, rounds: int, over_s: float) -> None:
    """Reload so often: backends come, go and change, routing changes, every tenth file is no good."""
    good = read(proxy)
    ids = [one["id"] for one in good["backends"]]
    began_s = time.monotonic()
    for number in range(rounds):
        config = json.loads(json.dumps(good))
        if number % 10 == 9:
            config["routing"]["nonsense"] = True
        config["routing"]["policy"] = ("predictive", "round-robin", "least-connections")[number % 3]
        left_out = ids[number % len(ids)]
        config["backends"] = [one for one in config["backends"] if one["id"] != left_out]
        config["backends"][-1]["slots"] = (0, 64)[number % 2]
        config["backends"][0]["characteristics"] = {"power_watts": number + 1}
        write(proxy, config)
        status, told = reload(proxy)
        assert status == (400 if number % 10 == 9 else 200), told
        if number % 10 == 9:
            assert "nonsense" in told["error"]
            assert ids[(number - 1) % len(ids)] not in backends(proxy)
        time.sleep(max(0.0, began_s + (number + 1) * over_s / rounds - time.monotonic()))
    write(proxy, good)


def test_reloads_under_load_lose_nothing(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy, SteadyLoad(proxy.http_port, 50) as load:
        shake(proxy, 10, 2.0)
    assert not load.bad
    assert load.good > 50


@pytest.mark.long
def test_a_hundred_reloads_in_a_minute_under_load_lose_nothing(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy:
        memory = psutil.Process(proxy.child.pid)
        with SteadyLoad(proxy.http_port, 100) as load:
            shake(proxy, 20, 12.0)
            before = memory.memory_info().rss
            began_s = time.monotonic()
            shake(proxy, 100, 60.0)
            took_s = time.monotonic() - began_s
            after = memory.memory_info().rss
    print(f"{load.good} requests, {load.bad}; {took_s:.0f} s; {before >> 10} -> {after >> 10} KiB")
    assert not load.bad
    assert load.good > 6000
    assert after <= before * 1.05
