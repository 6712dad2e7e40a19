"""What the energy of a running proxy keeps over a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ollama_proxy.app.access.guard import Guard
from ollama_proxy.app.access.keyring import Keyring
from ollama_proxy.app.energy.desk import EnergyDesk
from ollama_proxy.config.schema import ApiKey, Auth, Config, Energy
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.ledger.writer import Ledger
from ollama_proxy.fleet.state import Fleet


def recall(path: Path, budget: HourlyBudget, now_s: float = 50.0) -> HourlyBudget:
    desk = EnergyDesk(Config(energy=Energy(ledger_path=str(path))), Fleet(), lambda *_: None, {})
    desk.start()
    try:
        desk.recall_spending(budget, now_s)
    finally:
        desk.stop(now_s)
    return budget


def test_no_restart_makes_what_a_key_may_spend_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    now_unix_s = time.time()
    spent = ((80_000.0, "ada", 3000.0), (3000.0, "ada", 500.0), (10.0, "bob", 70.0), (9.0, "", 900.0))
    for ago_s, key, joules in (*spent, (90_000.0, "ada", 5000.0)):
        ledger.record(LedgerRow("r", now_unix_s - ago_s, "m", "b", key=key, marginal_j=joules))
    ledger.close()
    names = {"ada": ApiKey(key_hash="sha256:" + "a" * 64, wh_per_hour=0.1, wh_per_day=1.0)}
    guard = Guard(Keyring(Auth(enabled=True, api_keys=names, keys_file=str(tmp_path / "none"))), clock=lambda: 50.0)
    desk = EnergyDesk(Config(energy=Energy(ledger_path=str(path))), Fleet(), lambda *_: None, {})
    desk.start()
    try:
        guard.recall_spending(desk.recall_spending_by_key)
    finally:
        desk.stop(50.0)
    ada = guard.find_named("ada")
    assert ada is not None
    assert ada.quota is not None
    excess = ada.quota.take(0, 50.0)
    assert excess is not None
    # 500 of the 360 joules of the hour, and 3500 of the 3600 of the day.
    assert (excess.limit, excess.wait_s) == ("0.1 Wh an hour", pytest.approx(660, abs=61))
    ada.quota.spend(101.0, 50.0)
    excess = ada.quota.take(0, 50.0)
    assert excess is not None
    assert (excess.limit, excess.wait_s) == ("1 Wh a day", pytest.approx(6400, abs=1500))


def test_no_restart_makes_an_hours_budget_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    now_unix_s = time.time()
    for ago_s, joules in ((9000.0, 5000.0), (3000.0, 2000.0), (2999.0, None), (600.0, 1500.0), (-900.0, 70.0)):
        ledger.record(LedgerRow("r", now_unix_s - ago_s, "m", "b", marginal_j=joules))
    ledger.close()
    budget = recall(path, HourlyBudget(1))
    assert budget.spent_wh(50.0) == pytest.approx(3500 / 3600)
    assert budget.wait_s(50.0) == 0
    budget.spend(200.0, 50.0)
    assert budget.wait_s(50.0) == pytest.approx(3600 - 3000, abs=61)


def test_a_ledger_that_cannot_be_read_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("no ledger")
    assert recall(path, HourlyBudget(1)).spent_wh(50.0) == 0
