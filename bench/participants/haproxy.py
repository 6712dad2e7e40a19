"""HAProxy: one thread, no log, connections to the upstreams kept and shared."""

from __future__ import annotations

from pathlib import Path

from bench.measures import HTTP
from bench.participant import Launch, Plan
from bench.participants.debian import install_program, read_version

# Without `http-no-delay` it holds chunks back by 100 to 200 ms.
_CONFIG = """\
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    option http-no-delay
    option http-keep-alive
    http-reuse always
    timeout connect 10s
    timeout client 600s
    timeout server 600s
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend mock
backend mock
    balance roundrobin
{servers}
"""


class Haproxy:
    """Debian's package."""

    name = "haproxy"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """By apt-get."""
        return read_version([install_program("haproxy", "haproxy"), "-v"]).split(" - ")[0]

    def launch(self, plan: Plan) -> Launch:
        """In the foreground."""
        servers = "\n".join(
            f"    server mock{number} {url.removeprefix('http://')} pool-max-conn 1024"
            for number, url in enumerate(plan.upstreams)
        )
        config = plan.work / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=plan.port, servers=servers))
        return Launch([install_program("haproxy", "haproxy"), "-db", "-f", str(config)])
