"""The two Rust routers for model servers, vllm-router and sglang-router: they share an ancestor, and so their flags.

Before they send anything they ask the upstreams for /health; sglang-router also asks /server_info and /model_info, and
takes a 404 for an answer.
"""

from __future__ import annotations

from pathlib import Path

from bench.measures import HTTP
from bench.participant import Launch, Plan
from bench.participants.wheel import install_wheel

# Breakers and retries off: streams that the load breaks off would count as faults of the upstream.
_FLAGS = ["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", "--log-dir", "."]


def _flags(plan: Plan) -> list[str]:
    # Their metrics have a port of their own; the one for gRPC is free here.
    ports = ["--host", "127.0.0.1", "--port", str(plan.port), "--prometheus-host", "127.0.0.1"]
    return [*ports, "--prometheus-port", str(plan.grpc_port), "--worker-urls", *plan.upstreams, *_FLAGS]


class VllmRouter:
    """vllm-project/router."""

    name = "vllm-router"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """From PyPI."""
        return install_wheel(tools / self.name, "vllm-router==0.1.17")

    def launch(self, plan: Plan) -> Launch:
        """Its limit on requests at once limits them per second, too. It takes the level `warning` for `info`."""
        own = ["--max-concurrent-requests", "1000000", "--log-level", "error"]
        return Launch([str(plan.tools / self.name / "bin/vllm-router"), *_flags(plan), *own], ready_path="/health")


class SglangRouter:
    """sgl-project's router, now called the model gateway."""

    name = "sglang-router"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """From PyPI."""
        return install_wheel(tools / self.name, "sglang-router==0.3.2")

    def launch(self, plan: Plan) -> Launch:
        """It is ready when it has asked its upstreams, which it does after it has begun to listen."""
        own = ["launch", *_flags(plan), "--log-level", "error"]
        return Launch([str(plan.tools / self.name / "bin/sglang-router"), *own], ready_path="/readiness")
