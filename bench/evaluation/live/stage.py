"""The emulated devices and the proxy in front of them, as their users start them: two processes, ended in any case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from bench.ports import find_ports
from ollama_proxy.lab.device import SMALL

_ROOT = Path(__file__).resolve().parents[3]
_SELF = [sys.executable, "-P", "-m", "ollama_proxy"]
_START_S = 60.0
_POLL_S = 0.05
#: Both say so once they listen, and the proxy once it has looked at its backends.
_UP = "Stop with Ctrl-C."
#: As the lab calls its devices, in the order of the shipped backends.
NAMES = ("npu", "igpu", "nvidia", "cpu")
#: All of them hold it.
MODEL = SMALL


class Broken(Exception):
    """A process that did not start, or ended early; the text has its last words."""


class Stage:
    """Context manager. Time on the devices runs `speed` times as fast as life; the model is in every memory."""

    def __init__(self, work: Path, speed: float) -> None:
        self._work = work
        self._speed = speed
        port = find_ports(len(NAMES) + 3)
        self._ports = range(port, port + len(NAMES))
        self._control_port, self.http_port, self._grpc_port = range(port + len(NAMES), port + len(NAMES) + 3)
        self._children: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self.record_file = work / "decisions.jsonl"
        self._joules_before: dict[str, float] = {}

    def __enter__(self) -> Stage:
        try:
            self._start_lab()
            self._start_proxy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def joules(self) -> dict[str, float]:
        """By backend what the devices say they have spent since the start, in their own seconds (emulated)."""
        return {name: now - self._joules_before.get(name, 0.0) for name, now in self._read_joules().items()}

    def stop(self) -> None:
        """End both, the proxy first, so that it writes down its last decisions."""
        while self._children:
            child, log = self._children.pop()
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            log.close()

    def _start_lab(self) -> None:
        ports = ",".join(map(str, self._ports))
        flags = ("--devices", ",".join(NAMES), "--ports", ports, "--control-port", str(self._control_port))
        self._start("lab", [*_SELF, "lab", "up", *flags, "--speed", f"{self._speed:g}", "--text", "synthetic"])
        self._wait()
        for port in self._ports:
            _ask(port, "/api/generate", {"model": MODEL, "keep_alive": -1, "stream": False})
        self._joules_before = self._read_joules()

    def _start_proxy(self) -> None:
        config = self._work / "config.yaml"
        config.write_text(yaml.safe_dump(self._configure(), sort_keys=False))
        self._start("proxy", [*_SELF, "--config", str(config)])
        self._wait()
        known = {one["name"] for one in _ask(self.http_port, "/api/ps")["models"]}
        if MODEL not in known:
            raise Broken(f"the proxy does not see that {MODEL} is in memory: {known}")

    def _configure(self) -> dict[str, Any]:
        """The shipped configuration over the lab's ports, its priors in the devices' time."""
        config: dict[str, Any] = yaml.safe_load((_ROOT / "config" / "config.yaml").read_text())
        config["server"] |= {"http_port": self.http_port, "grpc_port": self._grpc_port}
        config["embedded"]["enabled"] = "never"
        config["monitoring"]["prometheus_port"] = 0
        config["routing"]["record_file"] = str(self.record_file)
        config["learning"] = {"keep": False}
        for backend, port in zip(config["backends"], self._ports, strict=True):
            backend["endpoint"] = f"http://127.0.0.1:{port}"
            backend["characteristics"]["avg_latency_ms"] /= self._speed
            backend["characteristics"]["max_tokens_per_second"] *= self._speed
        return config

    def _start(self, name: str, command: list[str]) -> None:
        log = (self._work / f"{name}.log").open("wb")
        env = {**os.environ, "PYTHONPATH": str(_ROOT / "src"), "XDG_STATE_HOME": str(self._work)}
        child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self._children.append((child, log))

    def _wait(self) -> None:
        """Until the process that was started last says that it is up. Raises `Broken`."""
        child, log = self._children[-1]
        until_s = time.monotonic() + _START_S
        while _UP not in (said := Path(log.name).read_text(errors="replace")):
            if child.poll() is not None or time.monotonic() > until_s:
                raise Broken(f"{log.name}: {said[-1000:]}")
            time.sleep(_POLL_S)

    def _read_joules(self) -> dict[str, float]:
        devices = _ask(self._control_port, "/lab/devices")["devices"]
        return {f"ollama-{one['device']}": float(one["joules"]) for one in devices}


def _ask(port: int, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON answer. Raises `OSError`, also for a status that is an error."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found
