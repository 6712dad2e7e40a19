"""Other servers as reverse proxies, each with a log of the requests that it read."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.process import LOAD_CORE, Process
from bench.reliability.smuggling.mutator import find_tag

_SBIN = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
#: Where Debian has them.
_APACHE_MODULES, _LIGHTTPD_MODULES = "/usr/lib/apache2/modules", "/usr/lib/lighttpd"
_LOG = "requests.log"


@dataclass(frozen=True, slots=True)
class Other:
    """A server: its program, and how its configuration is written and told to it."""

    name: str
    program: str
    configure: Callable[[Path, int, int], str]
    flags: Callable[[Path], list[str]]
    #: Whether its log is what it prints.
    logs_to_output: bool = False

    def find(self) -> str | None:
        """The program's path."""
        return shutil.which(self.program, path=_SBIN)

    def start(self, work: Path, port: int, upstream_port: int) -> Process:
        """In the foreground, listening on `port`. Raises `Failed`."""
        work.mkdir(parents=True, exist_ok=True)
        config = work / "server.conf"
        config.write_text(self.configure(work, port, upstream_port))
        process = Process([self.find() or self.program, *self.flags(config)], work, LOAD_CORE)
        process.wait_ready(port, "", 20)
        return process

    def read_log(self, work: Path) -> Counter[bytes]:
        """How often it has read each tagged target; lines without a tag count as empty."""
        path = work / ("output.log" if self.logs_to_output else _LOG)
        text = path.read_bytes() if path.exists() else b""
        lines = [line for line in text.split(b"\n") if line.startswith(b"REQ ") or b" REQ " in line]
        if self.logs_to_output:
            lines = list(dict.fromkeys(lines))  # it says each twice, and each has a number of its own
        return Counter(find_tag(line)[1] for line in lines)


def _nginx(work: Path, port: int, upstream: int) -> str:
    return f"""
daemon off; master_process off; worker_processes 1; user root; pid {work}/pid; error_log {work}/error.log crit;
events {{ worker_connections 2048; }}
http {{
  log_format seen 'REQ $request'; access_log {work}/{_LOG} seen;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u;
  scgi_temp_path {work}/s;
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{ listen 127.0.0.1:{port} backlog=1024; underscores_in_headers on; ignore_invalid_headers off;
    location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_request_buffering off; proxy_read_timeout 5s; proxy_next_upstream off; }} }}
}}
"""


def _haproxy(work: Path, port: int, upstream: int) -> str:
    return f"""
global
  maxconn 2000
defaults
  mode http
  log-format "REQ %HM %HU %rt"
  timeout client 5s
  timeout server 5s
  timeout connect 5s
  timeout http-request 5s
frontend front
  log stdout format raw local0 info
  bind 127.0.0.1:{port}
  default_backend behind
backend behind
  http-reuse always
  retries 0
  server one 127.0.0.1:{upstream}
"""


def _apache(work: Path, port: int, upstream: int) -> str:
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http")
    loads = "\n".join(f"LoadModule {name}_module {_APACHE_MODULES}/mod_{name}.so" for name in modules)
    return f"""
ServerRoot {work}
ServerName x
PidFile {work}/pid
Listen 127.0.0.1:{port}
{loads}
User www-data
Group www-data
ErrorLog {work}/error.log
LogLevel crit
LogFormat "REQ %r" seen
CustomLog {work}/{_LOG} seen
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 5
Timeout 5
ProxyRequests Off
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:{upstream}/ nocanon retry=0
"""


def _lighttpd(work: Path, port: int, upstream: int) -> str:
    return f"""
server.modules = ("mod_proxy", "mod_accesslog")
server.document-root = "{work}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{work}/error.log"
server.max-read-idle = 5
server.stream-request-body = 2
accesslog.filename = "{work}/{_LOG}"
accesslog.format = "REQ %r"
proxy.server = ("" => (("host" => "127.0.0.1", "port" => {upstream})))
"""


OTHERS = (
    Other("nginx", "nginx", _nginx, lambda config: ["-c", str(config), "-p", str(config.parent), "-e", "stderr"]),
    Other("HAProxy", "haproxy", _haproxy, lambda config: ["-db", "-f", str(config)], logs_to_output=True),
    Other("Apache", "apache2", _apache, lambda config: ["-X", "-f", str(config)]),
    Other("lighttpd", "lighttpd", _lighttpd, lambda config: ["-D", "-f", str(config), "-m", _LIGHTTPD_MODULES]),
)
