"""LiteLLM's proxy: one worker, no database, no callbacks, nothing fetched from the network."""

from __future__ import annotations

import json
from pathlib import Path

from bench.measures import HTTP
from bench.participant import MODEL, Launch, Plan
from bench.participants.wheel import install_wheel

# 1.107 and later ask for parts that PyPI does not have. 1.82.7 and 1.82.8 were an attack: never those.
_REQUIREMENT = "litellm[proxy]==1.106.12"
_ENV = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",  # which turns the access log off, too
    "LITELLM_TELEMETRY": "False",
    # Without a key it looks up none: that is in its favour.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    # Lists that it would fetch when it starts; the wheel has copies.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
}


def _deployment(url: str, dialect: str) -> dict[str, object]:
    if dialect == "ollama":
        params = {"model": f"ollama_chat/{MODEL}", "api_base": url}
    elif dialect == "anthropic":
        params = {"model": f"anthropic/{MODEL}", "api_base": url, "api_key": "none"}
    else:
        params = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    return {"model_name": MODEL, "litellm_params": params}


class Litellm:
    """It speaks OpenAI to its clients, whatever the upstreams speak."""

    name = "litellm"
    measures = HTTP | {"translated-openai-anthropic"}

    def install(self, tools: Path) -> str:
        """From PyPI; 700 MB."""
        return install_wheel(tools / self.name, _REQUIREMENT)

    def launch(self, plan: Plan) -> Launch:
        """On uvicorn, as its documentation starts it."""
        config = plan.work / "config.yaml"
        settings = {
            "model_list": [_deployment(url, plan.upstream_dialect) for url in plan.upstreams],
            "litellm_settings": {"num_retries": 0, "request_timeout": 600},
            "router_settings": {"routing_strategy": "simple-shuffle", "disable_cooldowns": True},
            "general_settings": {"disable_spend_logs": True, "background_health_checks": False},
        }
        config.write_text(json.dumps(settings))  # JSON is YAML, too
        place = ["--host", "127.0.0.1", "--port", str(plan.port), "--num_workers", "1"]
        program = str(plan.tools / self.name / "bin/litellm")
        return Launch([program, "--config", str(config), *place], _ENV, ready_path="/health/liveliness")
