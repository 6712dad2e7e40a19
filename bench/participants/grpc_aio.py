"""The Python peer of our gRPC server alone: grpcio's asyncio server, as documented, on uvloop."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.measures import GRPC_ALONE
from bench.participant import Launch, Plan, Unavailable

_ROOT = Path(__file__).parents[2]


class GrpcAio:
    """HealthCheck and nothing else."""

    name = "grpcio-aio"
    measures = GRPC_ALONE

    def install(self, tools: Path) -> str:
        """It is one of our development dependencies."""
        try:
            return f"grpcio {version('grpcio')}"
        except PackageNotFoundError as error:
            raise Unavailable("grpcio is not installed: it comes with the group dev") from error

    def launch(self, plan: Plan) -> Launch:
        """In the bench's own Python."""
        words = ["-m", "bench.participants.grpc_aio_server", str(plan.grpc_port), str(len(plan.upstreams))]
        return Launch([sys.executable, *words], {"PYTHONPATH": f"{_ROOT}:{_ROOT / 'src'}"}, ready_path="")
