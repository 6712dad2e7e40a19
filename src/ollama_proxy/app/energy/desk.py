"""All that has to do with energy in a running proxy, built from the configuration: meters, books, ledger, sensors."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ollama_proxy.app.energy.accounting import Accounting
from ollama_proxy.app.energy.climate import Climate
from ollama_proxy.app.energy.metering import build_meters
from ollama_proxy.app.energy.thermals import Thermals
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.energy.ledger.document import as_document, read_time
from ollama_proxy.energy.ledger.file import LedgerError, default_path, open_for_reading
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.ledger.spending import read_spending, read_spending_by_key
from ollama_proxy.energy.ledger.summary import Accounting as AccountingRule
from ollama_proxy.energy.ledger.summary import By, Tariff, summarise
from ollama_proxy.energy.ledger.writer import Ledger
from ollama_proxy.energy.meters.profile import ProfileSensor
from ollama_proxy.energy.meters.sampler import Sampler
from ollama_proxy.fleet.state import Fleet

_log = logging.getLogger(__name__)

#: For tests: where `/sys` is looked for instead of `/`.
_ROOT_VARIABLE = "OLLAMA_PROXY_SYSFS_ROOT"
#: A meter that hangs in a read is not waited for at the end.
_STOP_S = 0.5
#: An hour, and the piece of it by which a budget counts.
_BUDGET_S = 3660.0
#: The same of a day, for the limits of keys.
_KEYS_S = 87_840.0


def find_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The root of the file system whose sensors are read."""
    return Path(environ.get(_ROOT_VARIABLE) or "/")


class EnergyDesk:
    """`start` begins to measure and to write, `run` keeps the books, `stop` ends it all."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        count: Callable[[str, str, float], None],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        root = find_root(environ)
        section = config.meters
        meters = build_meters(section, environ, root)
        self._sampler = (
            Sampler(
                meters,
                active_period_s=section.active_interval_seconds,
                idle_period_s=section.idle_interval_seconds,
            )
            if meters
            else None
        )
        self._config = config.energy
        self._environ = environ
        self._ledger: Ledger | None = None
        self.accounting = Accounting(
            fleet,
            sampler=self._sampler,
            entries={entry.id: entry for entry in config.backends},
            record=self.record if config.energy.ledger else None,
            count=count,
        )
        self.climate = Climate(root, self._sampler, lambda: self.accounting.is_active, enabled=config.thermal.enabled)
        self._thermals = (
            Thermals(fleet, self.climate, ProfileSensor(root), lambda: self.accounting.entries, time.monotonic)
            if config.thermal.enabled
            else None
        )

    def start(self) -> None:
        """Look at the meters and open the ledger; one that cannot be used is told, and requests are served without."""
        if self._config.ledger:
            path = Path(self._config.ledger_path) if self._config.ledger_path else default_path(self._environ)
            try:
                self._ledger = Ledger(path, retention_days=self._config.retention_days)
            except LedgerError as error:
                _log.warning("no ledger: %s", error)
        if self._sampler is not None:
            self._sampler.start()

    async def watch_heat(self) -> None:
        """Tell the fleet which devices of this machine get hot, for ever."""
        if self._thermals is not None:
            await self._thermals.run()

    def recall_spending(self, budget: HourlyBudget, now_s: float) -> None:
        """Book what the ledger has of the last hour, so that no restart makes a budget anew."""
        if self._ledger is None or not budget.limit_j:
            return
        now_unix_s = time.time()
        try:
            spent = read_spending(self._ledger.path, now_unix_s - _BUDGET_S, now_unix_s)
        except LedgerError as error:
            _log.warning("the energy budget begins anew: %s", error)
            return
        for unix_s, joules in spent:
            budget.spend(joules, now_s - (now_unix_s - unix_s))

    def recall_spending_by_key(self, spend: Callable[[str, float, float], None], now_s: float) -> None:
        """Tell `spend` what the ledger has of each key's last day: name, joules, and when by the clock of `now_s`."""
        if self._ledger is None:
            return
        now_unix_s = time.time()
        try:
            spent = read_spending_by_key(self._ledger.path, now_unix_s - _KEYS_S, now_unix_s)
        except LedgerError as error:
            _log.warning("what keys may spend begins anew: %s", error)
            return
        for unix_s, key, joules in spent:
            spend(key, joules, now_s - (now_unix_s - unix_s))

    def sum_up(self, by: By, since: str, until: str, accounting: AccountingRule) -> dict[str, Any]:
        """What the ledger says, as `ollama-proxy ledger --json` tells it; reads a file. Raises `ProxyError`."""
        now_unix_s = time.time()
        try:
            span = (read_time(since, now_unix_s), read_time(until or "0m", now_unix_s))
        except ValueError as error:
            raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None
        if self._ledger is None:
            raise ProxyError(ErrorKind.NOT_FOUND, "no ledger is kept: see `energy.ledger` in the configuration")
        self._ledger.flush()
        path, section = self._ledger.path, self._config
        try:
            connection = open_for_reading(path)
            # The writer has made it.
            assert connection is not None
            with closing(connection):
                summary = summarise(connection, by, *span, accounting)
        except (LedgerError, sqlite3.Error) as error:
            raise ProxyError(ErrorKind.INTERNAL, f"the ledger cannot be read: {error}") from None
        tariff = Tariff(section.price_per_kwh, section.currency, section.carbon_g_per_kwh)
        return as_document(summary, tariff, span, str(path))

    def stop(self, now_s: float) -> None:
        """Settle what has ended, write it, and end all threads."""
        self.accounting.finish(now_s)
        if self._sampler is not None:
            self._sampler.stop(_STOP_S)
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def record(self, row: LedgerRow) -> None:
        """Write a row into the ledger, if there is one."""
        if self._ledger is not None:
            self._ledger.record(row)
