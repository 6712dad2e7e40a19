"""What traffic taught, kept over restarts: one small JSON file, replaced as a whole, so that no crash can tear it."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import logging
import os
import time
from pathlib import Path

import msgspec

from ollama_proxy.app.embeds.spaces import Spaces
from ollama_proxy.app.energy.learned import SavedJoules
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.config.schema import Learning
from ollama_proxy.domain.ports import Pupil
from ollama_proxy.energy.ledger.file import default_path
from ollama_proxy.fleet.embed_speeds import EmbedSpeeds, SavedSpeed
from ollama_proxy.fleet.lengths import SavedLengths
from ollama_proxy.fleet.saved import SavedBackend

_log = logging.getLogger(__name__)

_VERSION = 1
_SAVE_EVERY_S = 60.0
_MOST_BYTES = 64_000_000
_MOST_LESSONS = 1000


class Learned(msgspec.Struct, frozen=True):
    """The file. `rates` and `joules` by backend; `spent_j` of the last hour's energy budget."""

    version: int
    saved_unix_s: float
    rates: dict[str, SavedBackend]
    lengths: list[SavedLengths]
    tokens_per_byte: dict[str, float]
    joules: dict[str, SavedJoules] = {}
    spent_j: float = 0.0
    #: What backends found out about models.
    lessons: dict[str, bool] = {}
    #: The weights that answer with vectors for a name, by its canonical form.
    spaces: dict[str, str] = {}
    #: How fast backends make vectors, by backend and model.
    embed_speeds: dict[str, dict[str, SavedSpeed]] = {}


class Memory:
    """Reads the file at the start, writes it now and then and at the end. A file that cannot be used is said, once."""

    def __init__(
        self,
        config: Learning,
        dispatcher: Dispatcher,
        spaces: Spaces | None = None,
        embed_speeds: EmbedSpeeds | None = None,
    ) -> None:
        self._keep = config.keep
        self._path = Path(config.path) if config.path else default_path(os.environ).with_name("learned.json")
        self._dispatcher = dispatcher
        self._spaces = spaces or Spaces()
        self._embed_speeds = embed_speeds or EmbedSpeeds()
        self._told = False

    def recall(self) -> None:
        """Take up what the last run learned."""
        if not self._keep:
            return
        self._sweep_up()
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise ValueError("is too large")
            found = msgspec.json.decode(self._path.read_bytes(), type=Learned)
            if found.version != _VERSION:
                raise ValueError(f"has version {found.version}, this program knows {_VERSION}")
        except FileNotFoundError:
            return
        except (OSError, ValueError, msgspec.DecodeError, RecursionError) as error:
            _log.warning("%s is put aside as %s, learning starts anew: %s", self._path, self._put_aside(), error)
            return
        age_s = max(0.0, time.time() - found.saved_unix_s)
        dispatcher = self._dispatcher
        dispatcher.fleet_state.restore_rates(found.rates, age_s, dispatcher.clock())
        dispatcher.lengths.restore(found.lengths)
        self._spaces.restore(found.spaces)
        self._embed_speeds.restore(found.embed_speeds)
        dispatcher.prompts.restore(found.tokens_per_byte)
        dispatcher.accounting.restore_joules(found.joules, age_s, dispatcher.clock())
        self._recall_spending(found.spent_j, dispatcher.clock() - age_s)
        for backend in dispatcher.backends.values():
            if isinstance(backend, Pupil):
                backend.restore_lessons(found.lessons)

    def _recall_spending(self, joules: float, saved_s: float) -> None:
        """What the budget's hour had cost, where no ledger told it already: as if all of it had been spent at last."""
        budget = self._dispatcher.budget
        if not budget.spent_wh(self._dispatcher.clock()):
            budget.spend(joules, saved_s)

    def _sweep_up(self) -> None:
        """Remove what a run that was killed in a save has left."""
        for half in self._path.parent.glob(f"{glob.escape(self._path.name)}.*.new"):
            pid = half.suffixes[-2][1:] if len(half.suffixes) > 1 else ""
            if pid.isdigit() and not Path("/proc", pid).exists():
                half.unlink(missing_ok=True)

    def _put_aside(self) -> str:
        """Keep what cannot be read, as the next save takes its place; the name that it has now."""
        aside = self._path.with_name(f"{self._path.name}.unread")
        with contextlib.suppress(OSError):
            if self._path.is_file():
                self._path.replace(aside)
        return aside.name

    async def run(self) -> None:
        """Save now and then."""
        while self._keep:
            await asyncio.sleep(_SAVE_EVERY_S)
            await self._save_away()

    async def _save_away(self) -> None:
        """Save on another thread, unless somebody else does meanwhile."""
        if self._keep:
            await asyncio.to_thread(self._write, self._encode())

    def save(self) -> None:
        """Save at once, at the end, or for a successor."""
        if self._keep:
            self._write(self._encode())

    def give_up(self) -> None:
        """Another process writes the file from now on."""
        self._keep = False

    def _encode(self) -> bytes:
        dispatcher = self._dispatcher
        # Emulated devices teach nothing of the real ones behind their names.
        emulated = {one.spec.id for one in dispatcher.fleet_state.view().backends if one.emulated}
        return msgspec.json.encode(
            Learned(
                _VERSION,
                time.time(),
                dispatcher.fleet_state.save_rates(dispatcher.clock()),
                dispatcher.lengths.save(),
                dispatcher.prompts.save(),
                dispatcher.accounting.save_joules(),
                dispatcher.budget.spent_wh(dispatcher.clock()) * 3600,
                self._gather_lessons(),
                self._spaces.save(),
                self._embed_speeds.save(emulated),
            )
        )

    def _gather_lessons(self) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for backend in self._dispatcher.backends.values():
            if isinstance(backend, Pupil):
                found.update(backend.save_lessons())
        return dict(list(found.items())[-_MOST_LESSONS:])

    def _write(self, data: bytes) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            _settle(self._path.parent)
        except OSError as error:
            if not self._told:
                self._told = True
                _log.warning("what was learned cannot be kept in %s: %s", self._path, error.strerror or error)


def _settle(folder: Path) -> None:
    """Make the exchange of a file outlast a failure of power, where the file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
