"""A proxy as its users start it: a process with a configuration file."""

from __future__ import annotations

import itertools
import json
import re
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ollama_proxy.fleet.breaker import LONGEST_OUT_S
from tests.support.processes import IDS, ROOT, Child, free_port, http_get, wait_until

_numbers = itertools.count(1)


class ProxyProcess:
    """Context manager. `endpoints` are those of the four shipped backends, in order; without them nothing is there.

    `speed` scales the priors to devices whose time runs faster than life.
    """

    def __init__(
        self,
        work: Path,
        endpoints: Sequence[str] = (),
        embedded: str = "never",
        changes: dict[str, Any] | None = None,
        wait_ready: bool = True,
        speed: float = 1,
        replace: dict[str, Any] | None = None,
    ) -> None:
        """`changes` go into the sections of the shipped file, `replace` takes the place of whole ones."""
        self._folder = work / f"proxy-{next(_numbers)}"
        self._folder.mkdir()
        self._wait_ready = wait_ready
        self.config_path = self._folder / "config.yaml"
        config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
        config["server"] |= {"http_port": free_port(), "grpc_port": free_port()}
        # Tests share the cores, and threads of llama.cpp spin while they wait for one that has none.
        config["embedded"] |= {"enabled": embedded, "threads": 1}
        config["monitoring"]["prometheus_port"] = 0
        config["process"] = {"grace_seconds": 5}
        ends = list(endpoints) or [f"http://127.0.0.1:{free_port()}" for _ in IDS]
        for backend, endpoint in zip(config["backends"], ends, strict=True):
            backend["endpoint"] = endpoint
            character = backend["characteristics"]
            character["avg_latency_ms"] /= speed
            character["max_tokens_per_second"] *= speed
            if speed != 1:
                # What is guessed of a load by the model's size is in life's seconds.
                character["load_seconds"] = 0.3 / speed
        for section, values in (changes or {}).items():
            if isinstance(values, dict):
                config[section] = config.get(section, {}) | values
            else:
                config[section] = values
        config |= replace or {}
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.http_port: int = config["server"]["http_port"]
        self.grpc_port: int = config["server"]["grpc_port"]
        self.child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def state(self) -> Path:
        """The folder with what it writes down."""
        return self._folder / "ollama-proxy"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> ProxyProcess:
        command = [sys.executable, "-P", "-m", "ollama_proxy", "--config", str(self.config_path)]
        self.child = Child(
            command, self._folder / "log.txt", {"PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(self._folder)}
        )
        if self._wait_ready:
            wait_until(self._is_up, "the proxy")
        return self

    def _is_up(self) -> bool:
        self.child.check_alive()
        return "Stop with Ctrl-C." in self.child.text()

    def health(self) -> str:
        return http_get(self.url + "/health")[1]

    def keeps_out(self) -> bool:
        """Whether a breaker lets nobody in at the moment."""
        request = urllib.request.Request(self.url + "/backends", headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            backends = json.load(answer)["backends"]
        return any(not kept["most_at_once"] for one in backends for kept in one["kept_out"].values())

    def wait_for_breakers(self) -> None:
        """Until everybody may be asked again, if only with one request; a breaker is open for half a minute at most."""
        wait_until(lambda: not self.keeps_out(), "the breakers to try everybody", 2 * LONGEST_OUT_S)

    def log_lines(self, pattern: str) -> list[str]:
        """Lines of the log that match."""
        return [line for line in self.child.text().splitlines() if re.search(pattern, line)]

    def stop(self) -> int:
        code = self.child.stop()
        self.child.kill_group()
        return code

    def __enter__(self) -> ProxyProcess:
        return self.start()

    def __exit__(self, *error: object) -> None:
        code = self.stop()
        if error[0] is None:
            assert code == 0, self.child.text()[-4000:]
