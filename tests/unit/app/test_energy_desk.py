"""What the energy of a running proxy keeps over a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ollama_proxy.app.energy_desk import EnergyDesk
from ollama_proxy.config.schema import Config, Energy
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
