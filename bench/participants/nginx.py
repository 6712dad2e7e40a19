"""nginx: the limit we measure ourselves against. One worker, no access log, connections to the upstreams kept."""

from __future__ import annotations

from pathlib import Path

from bench.measures import HTTP
from bench.participant import Launch, Plan
from bench.participants.debian import install_program, read_version

_CONFIG = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream mock {{
{servers}
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


class Nginx:
    """Debian's package."""

    name = "nginx"
    measures = HTTP

    def install(self, tools: Path) -> str:
        """By apt-get."""
        return read_version([install_program("nginx", "nginx-light"), "-v"]).removeprefix("nginx version: ")

    def launch(self, plan: Plan) -> Launch:
        """In the foreground, with a configuration of its own."""
        servers = "\n".join(f"        server {url.removeprefix('http://')};" for url in plan.upstreams)
        config = plan.work / "nginx.conf"
        config.write_text(_CONFIG.format(work=plan.work, port=plan.port, servers=servers))
        program = install_program("nginx", "nginx-light")
        return Launch([program, "-p", str(plan.work), "-c", str(config), "-e", str(plan.work / "error.log")])
