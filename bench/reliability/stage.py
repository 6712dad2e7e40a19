"""The proxy over what the checks put behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

_IN_FLIGHT = re.compile(r"^ollama_proxy_backend_in_flight\{.*\} (\S+)$", re.MULTILINE)
_PREEMPTIONS = re.compile(r"^ollama_proxy_preemptions_total\{.*\} (\S+)$", re.MULTILINE)
_TASKS = re.compile(r"^ollama_proxy_tasks (\S+)", re.MULTILINE)


@asynccontextmanager
async def over(
    work: Path, urls: Sequence[str], slots: int = 1000, changes: dict[str, Any] | None = None
) -> AsyncIterator[ProxyProcess]:
    """A proxy over backends of Ollama's dialect at these addresses, which may be served by this very loop."""
    backends = [{"id": f"b{number}", "endpoint": url, "slots": slots} for number, url in enumerate(urls)]
    replace = {"backends": backends, "routing": {"default_backend": ""}}
    proxy = ProxyProcess(work, replace=replace, changes=changes)
    await asyncio.to_thread(proxy.start)
    try:
        yield proxy
    finally:
        await asyncio.to_thread(proxy.stop)


def rss_mb(proxy: ProxyProcess) -> float:
    """Resident memory."""
    return float(psutil.Process(proxy.child.pid).memory_info().rss) / 2**20


def descriptors(proxy: ProxyProcess) -> int:
    """Open descriptors."""
    return int(psutil.Process(proxy.child.pid).num_fds())


def in_flight(proxy: ProxyProcess) -> float:
    """Attempts that the proxy believes to be running, by its own metrics."""
    return sum(map(float, _IN_FLIGHT.findall(http_get(proxy.url + "/metrics")[1])))


def count_tasks(proxy: ProxyProcess) -> int:
    """Tasks of its event loop, by its own metrics; that which answers is one."""
    [count] = _TASKS.findall(http_get(proxy.url + "/metrics")[1])
    return int(float(count))


def count_preemptions(proxy: ProxyProcess) -> int:
    """Attempts that it broke off for more urgent requests, by its own metrics."""
    return round(sum(map(float, _PREEMPTIONS.findall(http_get(proxy.url + "/metrics")[1]))))


def count_held(proxy: ProxyProcess, client: int) -> int:
    """Connections to its HTTP port that it holds for a client, by that one's process id."""
    try:
        ports = {one.laddr.port for one in psutil.Process(client).net_connections("tcp")}
    except psutil.NoSuchProcess:
        return 0
    found = psutil.Process(proxy.child.pid).net_connections("tcp")
    held = [one for one in found if one.status == psutil.CONN_ESTABLISHED and one.laddr.port == proxy.http_port]
    return sum(one.raddr.port in ports for one in held)
