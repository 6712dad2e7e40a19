"""This product as it ships: routing, ids, metrics, ledger and the line a request leaves are all on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from bench.measures import CACHED, GRPC_ALONE, GRPC_THROUGH, HTTP, IN_PROCESS, TRANSLATED
from bench.participant import MODEL, Launch, Plan
from bench.participants.debian import read_version

#: The tree that is measured; `--source` names another, to compare two of them.
SOURCE = Path(os.environ.get("OLLAMA_PROXY_BENCH_SOURCE", Path(__file__).resolve().parents[2]))
_COMMAND = [sys.executable, "-P", "-m", "ollama_proxy"]
_ENV = {"PYTHONPATH": str(SOURCE / "src")}
#: Like the shipped configuration: hardware, watts, milliseconds to the first token, tokens a second.
DEVICES = (("npu", 3, 800, 10), ("igpu", 12, 350, 22), ("nvidia", 55, 150, 65), ("cpu", 28, 1200, 6))


def make_config(plan: Plan) -> dict[str, object]:
    """A fleet of as many devices as there are upstreams."""
    backends = []
    for number, url in enumerate(plan.upstreams):
        hardware, power_watts, latency_ms, tokens_per_second = DEVICES[number % len(DEVICES)]
        character = {
            "power_watts": power_watts,
            "avg_latency_ms": latency_ms,
            "max_tokens_per_second": tokens_per_second,
        }
        backends.append(
            {
                "id": f"{hardware}-{number}",
                "type": plan.upstream_dialect,
                "hardware": hardware,
                "endpoint": url,
                "models": [MODEL] if plan.upstream_dialect != "ollama" else [],
                "characteristics": character,
            }
        )
    return {
        "server": {"host": "127.0.0.1", "http_port": plan.port, "grpc_port": plan.grpc_port},
        "embedded": {"enabled": "never"},
        "learning": {"keep": False},
        # Joules are booked for every request all the same; only the file of the user who runs this is left alone.
        "energy": {"ledger": False},
        "monitoring": {"prometheus_port": 0},
        "backends": backends,
    }


class Ours:
    """With four backends."""

    name = "ours"
    upstream_count = 4
    measures = HTTP | CACHED | TRANSLATED | GRPC_ALONE | GRPC_THROUGH | IN_PROCESS

    def install(self, tools: Path) -> str:
        """It is here."""
        return read_version([*_COMMAND, "--version"], _ENV)

    def launch(self, plan: Plan) -> Launch:
        """As bin/ollama-proxy starts it."""
        return launch_with(plan, make_config(plan))


def launch_with(plan: Plan, config: dict[str, object], before: str = "") -> Launch:
    """It with a configuration; `before` is a line of the shell that starts what it needs."""
    path = plan.work / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [*_COMMAND, "--config", str(path)]
    if before:
        command = ["sh", "-c", f'{before}\nexec "$@"', "sh", *command]
    return Launch(command, _ENV, ready_path="/health")


class Ours1(Ours):
    """With one backend: nothing to choose from."""

    name = "ours-1"
    upstream_count = 1
    measures = frozenset({"unary", "streams-100"})


class Ours64(Ours):
    """With 64 backends: much to choose from."""

    name = "ours-64"
    upstream_count = 64
    measures = frozenset({"unary", "streams-100"})
