"""olla and llama-swap, where somebody has installed them: their Go modules are not on every module proxy.

Their configurations follow their documentation; unlike the others here, they have not been run by us.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bench.measures import HTTP
from bench.participant import MODEL, Launch, Plan, Unavailable
from bench.participants.debian import read_version


def _find(program: str, tools: Path, module: str) -> str:
    """Its path. Raises Unavailable, with the command that would bring it."""
    folders = os.pathsep.join((str(tools / "bin"), os.environ.get("PATH", "")))
    if found := shutil.which(program, path=folders):
        return found
    raise Unavailable(
        f"{program} is not on the PATH; `go install {module}@latest` brings it where its module is served"
    )


class Olla:
    """Its engine `olla`, the one for load. Rate limits and request log off; 0 is no limit."""

    name = "olla"
    # It opens no more than 50 connections to an upstream: 200 in all, too few for 400 streams.
    measures = HTTP - {"streams-400", "streams-2000"}
    path_prefix = "/olla/openai"

    def install(self, tools: Path) -> str:
        """Found, not installed."""
        return read_version([_find("olla", tools, "github.com/thushan/olla"), "--version"])

    def launch(self, plan: Plan) -> Launch:
        """Upstreams in turn; each must be known to have the model before it gets a request."""
        no_limits = dict.fromkeys(
            ("global_requests_per_minute", "per_ip_requests_per_minute", "health_requests_per_minute"), 0
        )
        endpoints = [
            {"url": url, "name": f"mock{number}", "type": "openai", "priority": 100, "check_interval": "60s"}
            for number, url in enumerate(plan.upstreams)
        ]
        settings = {
            "server": {"host": "127.0.0.1", "port": plan.port, "request_logging": False, "rate_limits": no_limits},
            "proxy": {"engine": "olla", "profile": "streaming", "load_balancer": "round-robin"},
            "discovery": {"type": "static", "static": {"endpoints": endpoints}},
            "logging": {"level": "error"},
        }
        config = plan.work / "olla.yaml"
        config.write_text(json.dumps(settings))  # JSON is YAML, too
        env = {"OLLA_LOG_LEVEL": "error", "OLLA_FILE_OUTPUT": "false"}
        program = _find("olla", plan.tools, "github.com/thushan/olla")
        return Launch([program, "--config", str(config)], env, ready_path="/internal/health")


class LlamaSwap:
    """It swaps models and does not balance: one upstream, as a peer, has them all."""

    name = "llama-swap"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """Found, not installed."""
        return read_version([_find("llama-swap", tools, "github.com/mostlygeek/llama-swap"), "-version"])

    def launch(self, plan: Plan) -> Launch:
        """No log, no capture of bodies, no polling of the machine's state."""
        settings = {
            "logLevel": "error",
            "logToStdout": "none",
            "captureBuffer": 0,
            "performance": {"disabled": True},
            "models": {},
            "peers": {"mock": {"proxy": plan.upstreams[0], "models": [MODEL]}},
        }
        config = plan.work / "llama-swap.yaml"
        config.write_text(json.dumps(settings))  # JSON is YAML, too
        program = _find("llama-swap", plan.tools, "github.com/mostlygeek/llama-swap")
        flags = ["-config", str(config), "-listen", f"127.0.0.1:{plan.port}"]
        return Launch([program, *flags], ready_path="/health")
