"""This product with its kept answers outside of the process. A server's own CPU counts as ours here."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.measures import CACHED
from bench.participant import Launch, Plan, Unavailable
from bench.participants.ours import Ours, launch_with, make_config
from bench.ports import find_ports

_MEASURES = CACHED | {"unary"}
_TOOLS = Path.home() / ".cache/ollama-proxy/tools/bin"


class OursSqlite(Ours):
    """In a file."""

    name = "ours-sqlite"
    measures = _MEASURES

    def launch(self, plan: Plan) -> Launch:
        """Each start has a new file."""
        cache = {"type": "sqlite", "path": str(plan.work / "answers.sqlite")}
        return launch_with(plan, {**make_config(plan), "cache": cache})


class OursValkey(Ours):
    """In a Redis or Valkey server on the same core."""

    name = "ours-valkey"
    measures = _MEASURES

    def install(self, tools: Path) -> str:
        """The server comes with the tests' tools."""
        find_server()
        return super().install(tools)

    def launch(self, plan: Plan) -> Launch:
        """Each start has a new server, which ends with the session."""
        port = find_ports(1)
        server = f"'{find_server()}' --port {port} --bind 127.0.0.1 --save '' --appendonly no >/dev/null &"
        cache = {"type": "valkey", "url": f"valkey://127.0.0.1:{port}/0"}
        return launch_with(plan, {**make_config(plan), "cache": cache}, f"{server} sleep 1")


def find_server() -> str:
    """The program. Raises Unavailable."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name) or shutil.which(name, path=_TOOLS)
        if found:
            return found
    raise Unavailable("neither valkey-server nor redis-server is here: tests/tools/install_redis-server.sh")
