"""The Go peer of our gRPC: grpc-go in front, net/http to Ollama behind. Its source is bench/go-grpc."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from bench.measures import GRPC_ALONE, GRPC_THROUGH
from bench.participant import Launch, Plan, Unavailable
from bench.programs import run_quietly

_SOURCE = Path(__file__).parents[1] / "go-grpc"
_LIMIT_S = 300


class GrpcGo:
    """Three methods of compute.v1, upstreams in turn, no routing."""

    name = "grpc-go"
    measures = GRPC_ALONE | GRPC_THROUGH

    def install(self, tools: Path) -> str:
        """By go build, which is quick where nothing has changed; the version is grpc-go's."""
        if not shutil.which("go"):
            raise Unavailable("go is not installed")
        run_quietly(["go", "build", "-o", str(tools / self.name), "."], cwd=_SOURCE, limit_s=_LIMIT_S)
        found = re.search(r"google\.golang\.org/grpc v(\S+)", (_SOURCE / "go.mod").read_text())
        return f"grpc-go {found[1]}" if found else "unknown"

    def launch(self, plan: Plan) -> Launch:
        """One processor: it has one core, and need not look for more."""
        flags = ["-listen", f"127.0.0.1:{plan.grpc_port}", "-upstreams", ",".join(plan.upstreams)]
        return Launch([str(plan.tools / self.name), *flags], {"GOMAXPROCS": "1"}, ready_path="")
