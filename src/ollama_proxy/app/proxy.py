"""The whole program as one object: built from a configuration, started, reloaded, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

from starlette.routing import Route

import ollama_proxy
from ollama_proxy.api.compute.methods import ComputeApi
from ollama_proxy.api.status import build_status_app
from ollama_proxy.app.access.audit import AuditLog, audit_path
from ollama_proxy.app.access.guard import Guard, make_limiter
from ollama_proxy.app.access.keyring import Keyring
from ollama_proxy.app.apis import build_apis
from ollama_proxy.app.caching.answer_cache import AnswerCache
from ollama_proxy.app.caching.stores import build_cache
from ollama_proxy.app.chains.room import build_pipelines
from ollama_proxy.app.control import ControlDesk
from ollama_proxy.app.embeds.room import EmbedRoom
from ollama_proxy.app.energy.desk import EnergyDesk, find_root
from ollama_proxy.app.front import Front
from ollama_proxy.app.generation import Generation, build_generation, compare, replaced
from ollama_proxy.app.inquiry import Desk
from ollama_proxy.app.learned import Memory
from ollama_proxy.app.passage import Passage
from ollama_proxy.app.process.activation import take_activated
from ollama_proxy.app.process.departure import Departure
from ollama_proxy.app.process.garbage import Garbage
from ollama_proxy.app.process.handover import ControlSocket, Heritage, Offer, control_path
from ollama_proxy.app.process.notify import READY, STOPPING, notify
from ollama_proxy.app.process.ports import Ports, Sockets, find_places
from ollama_proxy.app.reload import CannotAdopt, Reloader, Source
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.requests.settlement import Books
from ollama_proxy.app.retrieval.room import build_room
from ollama_proxy.app.service import ModelService
from ollama_proxy.app.steering import Steering
from ollama_proxy.app.upstreams.backends import build_passage
from ollama_proxy.app.upstreams.embedding import EmbeddedBackend, find_writer
from ollama_proxy.app.upstreams.roster import Roster
from ollama_proxy.app.values import make_origins, make_pressure, set_dispatcher
from ollama_proxy.config.key_file import KeyFileError
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.pipelines import Pipelines
from ollama_proxy.domain.vectors import Embedder, Retriever
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.energy.meters.supply import read_supply
from ollama_proxy.net.task import spawn
from ollama_proxy.observability.decision_file import DecisionFile
from ollama_proxy.observability.decisions import Decisions
from ollama_proxy.observability.logs import RequestLog
from ollama_proxy.observability.metrics import Metrics
from ollama_proxy.routing.policies import Supply

_log = logging.getLogger(__name__)

_EMBED = Operation.EMBED
_SWEEP_S = 1.0
#: So many times in between it is looked who may be tried again.
_MOVES = 4


class Proxy:
    """Everything that is there, and its life."""

    def __init__(
        self,
        config: Config,
        source: Source | None = None,
        heritage: Heritage | None = None,
        followed: Callable[[], None] = lambda: None,
    ) -> None:
        """`source` is where the configuration came from; without one it cannot be reloaded. `heritage` is what the
        process before has handed over; `followed` is called when a successor serves, and it is time to stop."""
        self._loop = asyncio.get_running_loop()
        auth = config.server.auth
        #: Who may do what.
        self.guard = Guard(Keyring(auth), make_limiter(config.server.rate_limit), self._loop.time)
        self._audit = AuditLog(audit_path(auth.audit_file, os.environ))
        self._generation = generation = build_generation(config)
        self._roster = Roster(generation, self._loop.time)
        self._fleet, self._prober = self._roster.fleet, self._roster.prober
        self._metrics = Metrics(self._fleet.view, ollama_proxy.__version__)
        self._log = RequestLog(sys.stderr, enabled=config.monitoring.trace_requests)
        self._budget = HourlyBudget(config.energy.budget_wh_per_hour)
        self._energy = EnergyDesk(config, self._fleet, self._spend)
        self._metrics.read_meters = self._energy.accounting.meters
        self._steering = Steering(config, self._fleet.view, partial(read_supply, find_root()))
        record_file = config.routing.record_file
        self._decision_file = DecisionFile(Path(record_file)) if record_file else None
        self._dispatcher = Dispatcher(
            fleet=self._fleet,
            backends=self._roster.backends,
            policy=self._steering.policy,
            books=Books(self._fleet, self._metrics, self._log),
            clock=self._loop.time,
            refresh=self._refresh_lists,
            budget=self._budget,
            decisions=Decisions(self._decision_file.add if self._decision_file is not None else None),
            accounting=self._energy.accounting,
        )
        set_dispatcher(self._dispatcher, config)
        #: Answers that are kept; None for none.
        self.cache: AnswerCache | None = build_cache(
            config.cache, self._dispatcher, self._energy.record, self._metrics, lambda: self.embedder
        )
        self._embeds = EmbedRoom(config, self._dispatcher, self._roster, self._metrics)
        #: What the APIs ask for.
        self.service = ModelService(
            self._dispatcher, self._roster, self._embeds, self.cache, self._find_retriever, config
        )
        #: Files, vector stores, and what is found in them.
        self.vectors = build_room(
            config, self.embedder, lambda: self._steering.supply is Supply.MAINS, self.guard.find_named, self.service
        )
        self._pressure = make_pressure(config)
        #: Where the pages about decisions ask.
        self.inquiry = Desk(self._dispatcher, self._steering.policy_in)
        self._dispatcher.resteer = self._steer
        self._steering.wants = lambda: self._dispatcher.admission.wants
        self._memory = Memory(config.learning, self._dispatcher, self._embeds.desk.spaces, self._embeds.desk.speeds)
        self._dispatcher.listener.ask = lambda name: spawn(self._ask_after(name), f"ask after {name}")
        find = partial(find_writer, config.embedded)
        self._embedded = EmbeddedBackend(find, config.embedded.threads, self._roster.join, self._roster.leave)
        self._reloader = Reloader(self, source)
        #: What the status pages ask for and set.
        self.control = ControlDesk(
            self._dispatcher,
            self._energy,
            self._steering,
            self._metrics,
            self._reloader,
            self._is_leaving,
        )
        pages = build_status_app(self.control)
        self._page_paths = frozenset(route.path.encode() for route in pages.routes if isinstance(route, Route))
        apis, make_id = build_apis(self), self._dispatcher.make_request_id
        self._front = Front(apis, pages, make_id, make_origins(config), self.guard, self._audit)
        self._open_metrics(config)
        self._passage: Passage | None = None
        self._look_through(generation)
        self._ports = Ports(self._front, ComputeApi(self.service, self.pipelines))
        self._departure = Departure(self._ports, self._dispatcher.running)
        self._heritage = heritage
        self._followed = followed
        if heritage is not None:
            self._steering.inherit(heritage.mode)
        path = control_path(config)
        self._control = ControlSocket(path, self) if path is not None else None
        self._garbage = Garbage()
        #: What is looked after once a second.
        self._sweeps: tuple[Callable[[float], None], ...] = (
            lambda _: self._steer(),
            self._relieve,
            self._dispatcher.sweep,
            self._ports.sweep,
            lambda _: self.guard.sweep(),
            self._collect_garbage,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._generation.config

    def _is_leaving(self) -> bool:
        return self._departure.is_leaving

    def _look_through(self, now: Generation) -> None:
        """Send what nobody else takes to the transparent backend, if there is one."""
        if self._passage is not None:
            spawn(self._passage.close(), "close the pool of a passage")
        if now.transparent is not None:
            front = self._front
            front.passage = self._passage = build_passage(
                now.transparent, self._fleet.view, self._page_paths, front.refuse
            )
        else:
            self._front.passage = self._passage = None

    def _spend(self, backend: str, kind: str, joules: float) -> None:
        """Joules that were booked."""
        self._metrics.add_energy(backend, kind, joules)
        self._budget.spend(joules, self._loop.time())

    # -- start and stop --------------------------------------------------------

    async def start(self) -> None:
        """Look at the backends, start the embedded model if it is needed, then listen. Raises `CannotListen`."""
        self._dispatcher.starting = True
        heritage = self._heritage
        self._ports.inherit(heritage.sockets if heritage is not None else take_activated(find_places(self.config)))
        move = self._ports.prepare(self.config)
        if heritage is None:
            await self._ports.commit(move)
        if self.cache is not None:
            await self.cache.open()
        self._energy.start()
        self._energy.recall_spending(self._budget, self._loop.time())
        self.guard.recall_spending(self._energy.recall_spending_by_key)
        await self._prober.probe_all()
        self._memory.recall()
        embedded = self.config.embedded.enabled
        nobody = self._passage is None and not any(map(_answers, self._fleet.view().backends))
        if embedded == "always" or (embedded == "auto" and nobody):
            await self._embedded.start()
        # Only now it is known who serves, and so who may run under a power cap.
        self._steer()
        if heritage is not None:
            # Until now the predecessor has served alone.
            await self._ports.commit(move)
        self._dispatcher.started()
        self.vectors.resume()
        self._garbage.begin(self._loop.time())
        self._tasks.append(spawn(self._prober.run(), "probes"))
        self._tasks.append(spawn(self._sweep(), "sweep"))
        self._tasks.append(spawn(self._memory.run(), "keep what was learned"))
        if self.cache is not None:
            self._tasks.append(spawn(self.cache.run(), "look at the cache"))
        self._tasks.append(spawn(self._energy.accounting.run(self._loop.time), "energy"))
        self._tasks.append(spawn(self._energy.watch_heat(), "watch temperatures"))
        if self._decision_file is not None:
            self._tasks.append(spawn(self._decision_file.run(), "record decisions"))
        self._tasks.append(spawn(self._reloader.run(), "watch the configuration"))
        notify(READY, f"MAINPID={os.getpid()}")
        if heritage is not None:
            await heritage.confirm()
        if self._control is not None:
            self._control.open()

    @property
    def http_port(self) -> int:
        """The HTTP port that was bound."""
        return self._ports.http

    @property
    def grpc_port(self) -> int:
        """The gRPC port that was bound."""
        return self._ports.grpc

    async def offer(self) -> tuple[Offer, Sockets]:
        """What a successor gets, with what was learned up to now in its file."""
        self._memory.save()
        return Offer(mode=self._steering.mode_by_hand), self._ports.sockets

    def hand_over(self) -> None:
        """A successor serves: accept no more, leave the files to it, and end."""
        self._departure.followed = True
        self._ports.stop_listening()
        self._memory.give_up()
        if self._decision_file is not None:
            self._decision_file.share()
        self._followed()

    def hurry(self) -> None:
        """Wait for nobody any more on the way out."""
        self._departure.hurry()

    async def stop(self) -> None:
        """Be not ready, let answers end within the grace period, give the rest a last word, end everything."""
        self._reloader.end()
        if not self._departure.followed:
            notify(STOPPING)
        if self._control is not None:
            await self._control.close(followed=self._departure.followed)
        process = self.config.process
        await self._departure.leave(process.drain_delay_seconds, process.grace_seconds)
        for task in self._tasks:
            task.cancel()
        await self.vectors.close()
        await self._embedded.stop()
        await self._embeds.stop()
        await self._roster.close()
        if self._passage is not None:
            await self._passage.close()
        if self.cache is not None:
            await self.cache.close()
        self._energy.stop(self._loop.time())
        self._memory.save()
        if self._decision_file is not None:
            self._decision_file.flush()
        self._log.flush()

    async def _sweep(self) -> None:
        before_s = self._loop.time()
        while True:
            for _ in range(_MOVES):
                await asyncio.sleep(_SWEEP_S / _MOVES)
                self._fleet.move(self._loop.time())
            now_s = self._loop.time()
            late_s, before_s = now_s - before_s - _SWEEP_S, now_s
            if late_s > _SWEEP_S:
                # Stopped and continued, or the machine had no time for us.
                self._dispatcher.forgive(late_s)
            for sweep in self._sweeps:
                try:
                    sweep(now_s)
                except Exception:  # noqa: BLE001  # a task root: a fault in one room must not end the care for the others
                    _log.exception("a sweep failed; it is tried again in a second")

    def _relieve(self, _: float) -> None:
        self._dispatcher.pressure, self._dispatcher.pressure_told = self._pressure.look(), self._pressure.told

    def _collect_garbage(self, now_s: float) -> None:
        self._garbage.sweep(now_s, idle=not self._dispatcher.running)

    def _steer(self) -> None:
        if self._steering.tick():
            self._dispatcher.policy = self._steering.policy

    # -- another configuration ------------------------------------------------------

    async def adopt(self, config: Config) -> None:
        """Serve by another configuration from now on. Raises `CannotListen` or `CannotAdopt`, and then nothing has
        changed.

        Everything is built and everybody new has been asked before anything is exchanged, and that is done in one turn
        of the event loop. Requests that run keep the objects that they run on.
        """
        before, now = self._generation, build_generation(config, self._generation)
        who = compare(before, now)
        found = await self._roster.ask(now, who)
        try:
            keys = self.guard.read_keys(config.server.auth)
        except KeyFileError as error:
            raise CannotAdopt(f"server.auth: {error}") from None
        move = self._ports.prepare(config)
        self._roster.exchange(now, who, found)
        self._energy.accounting.rearrange({one.id: one for one in config.backends}, who.joined)
        self._generation = now
        if now.transparent != before.transparent:
            self._look_through(now)
        self._set(config)
        self.guard.replace(config.server.auth, keys, config.server.rate_limit)
        self._open_metrics(config)
        self._audit.write("proxy", "", "adopt configuration", "", "done")
        self._steer()
        self._dispatcher.plan_soon()
        await self._ports.commit(move)
        for backend in replaced(before, now):
            await backend.close()

    def _set(self, config: Config) -> None:
        """Take up all that is no more than a value."""
        self._front.judge_by(make_origins(config))
        self._log.enabled = config.monitoring.trace_requests
        logging.getLogger().setLevel(config.monitoring.log_level.upper())
        self._budget.change(config.energy.budget_wh_per_hour)
        self.service.adopt(config)
        self.vectors.adopt(config)
        self._steering.adopt(config)
        self._dispatcher.policy = self._steering.policy
        set_dispatcher(self._dispatcher, config)
        self._embeds.adopt(config)
        self._pressure = make_pressure(config)

    def _open_metrics(self, config: Config) -> None:
        self._front.permit(b"/metrics", "open" if config.server.auth.open_metrics else "key")

    def request_reload(self, why: str) -> None:
        """Reload soon; how it went is in the log."""
        self._reloader.request(why)

    # -- what rooms need of each other ----------------------------------------------

    @cached_property
    def pipelines(self) -> Pipelines | None:
        """Those of the configuration that the program began with; None where they are switched off."""
        return build_pipelines(self.config.pipelines, self.service, self.embedder, self._find_retriever)

    @property
    def embedder(self) -> Embedder:
        """For rooms that need vectors themselves."""
        return self._embeds.embedder

    def _find_retriever(self) -> Retriever | None:
        return self.vectors.retriever

    async def _ask_after(self, backend: str) -> None:
        asked_s = self._loop.time()
        if not await self._prober.ask_after(backend):
            self._dispatcher.listener.found_dumb(backend, asked_s)

    async def _refresh_lists(self) -> None:
        await self._prober.refresh()

    @property
    def embedded_problem(self) -> str:
        """Why the embedded model is not there although it was wanted, or ""."""
        return self._embedded.problem


def _answers(view: BackendView) -> bool:
    return view.health.serves and view.spec.kind != "vectordb"
