"""B8 to B10: who may do what, and what a proxy does that nobody has configured."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psutil
import yaml

from bench.reliability.raw import post, send
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.tested import ProvenByTests
from tests.support.processes import ROOT, free_port
from tests.support.proxy import ProxyProcess

_LOCAL = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
#: What a page in somebody's browser could ask for, were it let.
_CHANGING = (b"/api/pull", b"/api/push", b"/api/create", b"/api/copy", b"/api/delete", b"/proxy/reload")


def defaults(setting: Setting) -> Outcome:
    """The shipped configuration as it is, then listening for everybody."""
    figures: dict[str, Any] = {}
    with ProxyProcess(setting.work) as proxy:
        listening = [
            one.laddr.ip for one in psutil.Process(proxy.child.pid).net_connections() if one.status == "LISTEN"
        ]
        figures["listens_on"] = sorted(set(listening))
        origin = b"Origin: http://evil.example\r\n"
        statuses = {path.decode(): send(proxy.http_port, post(path, b"{}", origin))[0] for path in _CHANGING}
        figures["from_a_strange_page"] = statuses
        _, answer = send(proxy.http_port, post(b"/api/generate", b"{}"))
        figures["wildcard_cors"] = b"access-control-allow-origin: *" in answer.lower()
    figures["public"] = _start_for_everybody(setting)
    code, said = figures["public"]
    words = (
        f"listens on {figures['listens_on']}; a strange page gets {set(statuses.values())}; listening for everybody"
        f" without keys ends with code {code}: {said[:200]!r}"
    )
    return judge(
        words,
        figures,
        set(listening) <= set(_LOCAL),
        set(statuses.values()) == {403},
        not figures["wildcard_cors"],
        code == 2,
        len(said.strip().splitlines()) <= 3,
    )


def _start_for_everybody(setting: Setting) -> tuple[int, str]:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["server"] |= {"host": "0.0.0.0", "http_port": free_port(), "grpc_port": free_port()}
    path = setting.work / "public.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-P", "-m", "ollama_proxy", "--config", str(path)]
    env = {"PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(setting.work), "PATH": "/usr/bin:/bin"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return 0, "it started"
    return done.returncode, done.stderr.replace(str(path), "FILE")


ROWS = (
    Row(
        "B8",
        "isolation: near and colliding prompts over tenants; timing of hit against miss",
        "0 hits across a border; <= 1 % wrong hits inside one; no difference in timing",
        "Kept answers: 100,000 near-equal requests of many keys, texts that collide in pieces, two keys over the wire,"
        " 492 adversarial pairs for the semantic cache, times until the backend is asked. The store of responses has no"
        " row yet",
        ProvenByTests(
            (
                "tests/security/test_cache_isolation.py",
                "tests/unit/app/caching/test_answer_cache.py",
                "tests/unit/cache",
            ),
            with_long=True,
        ).run,
    ),
    Row(
        "B9",
        "permissions x routes x APIs, keys of every kind",
        "100 % as declared; rights only shrink",
        "Every route of every API for every kind of key, the keyring, and the limits of keys",
        ProvenByTests(
            ("tests/security/test_keys.py", "tests/unit/app/access", "tests/unit/app/requests/test_key_limits.py")
        ).run,
    ),
    Row(
        "B10",
        "defaults: bind, auth, CORS, admin, model-changing calls",
        "loopback only; public bind without keys exits with one sentence; 403 for a strange page that changes models",
        "The shipped file is started, its sockets are looked at, and a page of another origin asks for changes; then"
        " the same file with host 0.0.0.0",
        defaults,
    ),
)
