"""The books over a machine of files whose counters the test moves, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from ollama_proxy.app.energy.accounting import Accounting
from ollama_proxy.app.energy.bill import Bill
from ollama_proxy.app.energy.learned import SavedJoules
from ollama_proxy.app.energy.metered import Meter as SharedMeter
from ollama_proxy.app.energy.plan import Member, Plan
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.annotations import NO_ANNOTATIONS
from ollama_proxy.domain.answer import Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.metering import Meter, Source
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.meters.npu import NpuMeter
from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.sampler import Sampler
from ollama_proxy.energy.model import SharedTime
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide
from tests.support.sysfs import FakeSysfs

MODEL = "m:1b"
CAN = frozenset((Need.GENERATE,))
PACKAGE = "sys/class/powercap/intel-rapl:0"
STEP_S = 0.05
IDLE_W = 6.0
HOME = "http://localhost:11434"


class Machine:
    """Backends of this machine behind one package counter; time goes in steps, in which the package draws `watts`."""

    def __init__(self, sysfs: FakeSysfs, *hardware: str, emulated: bool = False, power_watts: float = 20.0) -> None:
        self.now_s = 1000.0
        self.watts = IDLE_W
        self.joules = 0.0
        self.npu_busy_s = 0.0
        self.npu_is_busy = False
        self.sysfs = sysfs
        self.moves = True
        sysfs.add_zone("intel-rapl:0", "package-0")
        sysfs.add_npu(busy_us=0)
        self.fleet = Fleet()
        self.rows: list[LedgerRow] = []
        self.counted: dict[tuple[str, str], float] = {}
        for name in hardware:
            self.fleet.add(BackendSpec(name, "ollama", name, name, power_watts, 500, 20, slots=4), CAN)
            report = ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL}), emulated=emulated)
            self.fleet.probed(name, report, 0)
        meters: Sequence[Meter] = (PowercapMeter(sysfs.root), NpuMeter(sysfs.root))
        self.sampler = Sampler(meters, clock=lambda: self.now_s)
        self.entries = {name: Backend(id=name, endpoint=HOME, hardware=name) for name in hardware}  # type: ignore[arg-type]
        self.accounting = Accounting(
            self.fleet,
            sampler=self.sampler,
            entries=self.entries,
            record=self.rows.append,
            count=self._count,
            unix_clock=lambda: self.now_s,
        )
        self.run(20.0)

    def _count(self, backend: str, kind: str, joules: float) -> None:
        self.counted[backend, kind] = self.counted.get((backend, kind), 0.0) + joules

    def run(self, seconds: float, each: Callable[[], None] | None = None) -> None:
        """Let time pass, the sampler look and the books be settled."""
        for number in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            if self.moves:
                self.joules += self.watts * STEP_S
                self.npu_busy_s += STEP_S * self.npu_is_busy
                self.sysfs.set(f"{PACKAGE}/energy_uj", int(self.joules * 1e6))
                self.sysfs.add_npu(busy_us=int(self.npu_busy_s * 1e6))
            self.sampler.sample()
            if each is not None:
                each()
            if number % 5 == 0:
                self.settle()

    def settle(self) -> None:
        while self.accounting.settle(self.now_s):
            pass

    def open(self, backend: str, operation: Operation = Operation.GENERATE) -> Bill:
        request = RoutingRequest(MODEL, MODEL, CAN, NO_ANNOTATIONS, 100.0, 0, embed=False)
        decision = decide(request, self.fleet.view(), Policy(), frozenset({*self.names} - {backend}))
        assert isinstance(decision, Decision)
        call = Call("r", Dialect.OLLAMA, operation, MODEL, True, self.now_s, Generation, way_in="ollama")
        bill = self.accounting.open(self.fleet.look(backend), call, decision, request, self.now_s)
        assert bill is not None
        return bill

    @property
    def names(self) -> list[str]:
        return [view.id for view in self.fleet.view().backends]

    def ask(self, backend: str, seconds: float, watts: float, tokens: int = 40) -> LedgerRow:
        """A request that has the machine for itself, and its row."""
        before = len(self.rows)
        bill = self.open(backend)
        self.watts, self.npu_is_busy = watts, backend == "npu"
        self.run(seconds)
        self.watts, self.npu_is_busy = IDLE_W, False
        self.accounting.close(bill, "ok", self.now_s, bill.begun_s + seconds / 4, Usage(100, tokens))
        self.run(2.5)  # an NPU tells its time once a second
        assert len(self.rows) == before + 1
        return self.rows[-1]


def test_one_request_gets_what_its_meter_shows_above_idleness() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        row = machine.ask("cpu", 4.0, 30.0)
    assert row.marginal_j == pytest.approx(4.0 * 24.0, rel=0.02)
    assert row.full_j == pytest.approx(4.0 * 30.0, rel=0.02)
    assert (row.kind, row.outcome, row.backend, row.model) == ("measured", "ok", "cpu", MODEL)
    assert row.plus_minus_j is not None
    assert 0 < row.plus_minus_j < 0.2 * 96
    assert machine.counted == {("cpu", "measured"): pytest.approx(row.marginal_j)}


def test_what_requests_get_at_once_adds_up_to_the_meter() -> None:
    """Four at once, of different lengths, one of them broken off and one failed."""
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        before_j = machine.joules
        bills = [machine.open("cpu") for _ in range(4)]
        machine.watts = 40.0
        for bill, result in zip(bills, ("ok", "cancelled", "failed", "ok"), strict=True):
            machine.run(1.5)
            machine.accounting.close(bill, result, machine.now_s, bill.begun_s + 0.5, Usage(100, 60))
        machine.watts = IDLE_W
        machine.run(2.0)
        total_j = machine.joules - before_j
        books = machine.accounting._meters[0].books["cpu"].balance
    assert {row.outcome for row in machine.rows} == {"ok", "cancelled", "failed"}
    shares = sum(row.full_j or 0.0 for row in machine.rows)
    assert shares + 2.0 * IDLE_W == pytest.approx(total_j, rel=0.01)
    assert sum(row.marginal_j or 0.0 for row in machine.rows) == pytest.approx(6.0 * 34.0, rel=0.01)
    assert books.meter_j == pytest.approx(
        books.marginal_j + books.floor_j + books.other_j + books.idle_j + books.pending_j
    )


def test_a_package_is_shared_out_among_its_devices() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu", "npu", power_watts=10.0)
        for _ in range(12):
            machine.ask("cpu", 3.0, IDLE_W + 25.0)
            row = machine.ask("npu", 3.0, IDLE_W + 4.0)
        cpu = machine.rows[-2]
    assert (row.backend, cpu.backend) == ("npu", "cpu")
    assert (row.kind, cpu.kind) == ("apportioned", "apportioned")
    assert row.marginal_j == pytest.approx(3.0 * 4.0, rel=0.15)
    assert cpu.marginal_j == pytest.approx(3.0 * 25.0, rel=0.15)


def test_an_emulated_backend_never_gets_this_machines_joules() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu", emulated=True)
        row = machine.ask("cpu", 2.0, 90.0)
        assert machine.accounting.meters() == ()
    assert (row.marginal_j, row.kind) == (pytest.approx(2.0 * 20.0), "emulated")


def test_without_a_meter_requests_at_once_share_the_configured_draw() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cloud")
        bills = [machine.open("cloud") for _ in range(4)]
        machine.run(3.0)
        figures = [machine.accounting.close(bill, "ok", machine.now_s, None, Usage(1, 1)) for bill in bills]
        machine.settle()
    assert [figure.joules for figure in figures] == [pytest.approx(20.0 * 3.0 / 4)] * 4
    assert sum(row.marginal_j or 0.0 for row in machine.rows) == pytest.approx(60.0)
    assert {row.kind for row in machine.rows} == {"modelled"}


def test_what_nobody_knows_is_absent() -> None:
    with FakeSysfs() as sysfs:
        row = Machine(sysfs, "cloud", power_watts=0.0).ask("cloud", 1.0, 6.0)
    assert (row.marginal_j, row.full_j, row.plus_minus_j, row.static_j, row.kind) == (None,) * 4 + ("unknown",)


@pytest.mark.parametrize("fault", ["vanish", "fail", "freeze", "negative", "words"])
def test_a_meter_that_is_lost_at_work_gives_way_to_the_model(fault: str) -> None:
    """And the model says so; once back for a while, the meter is believed again."""
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        assert machine.ask("cpu", 2.0, 30.0).kind == "measured"
        bill = machine.open("cpu")
        machine.watts = 30.0
        machine.run(1.0)
        name = f"{PACKAGE}/energy_uj"
        machine.moves = False
        if fault in ("vanish", "fail"):
            getattr(sysfs, fault)(name)
        elif fault != "freeze":
            sysfs.set(name, {"negative": -5, "words": "nan"}[fault])
        machine.run(3.0)
        assert [one.stale for one in machine.accounting.meters()] == [True]
        machine.accounting.close(bill, "ok", machine.now_s, bill.begun_s + 0.5, Usage(100, 40))
        machine.run(25.0)
        lost = machine.rows[-1]
        assert (lost.kind, lost.marginal_j) == ("modelled", pytest.approx(20.0 * 4.0, rel=0.01))
        machine.moves = True
        machine.watts = IDLE_W
        assert machine.ask("cpu", 2.0, 30.0).kind == "modelled"
        machine.run(6.0)
        back = machine.ask("cpu", 2.0, 30.0)
    assert (back.kind, back.marginal_j) == ("measured", pytest.approx(2.0 * 24.0, rel=0.05))


def test_what_is_modelled_while_the_meter_is_lost_has_its_share_of_the_floor() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        for tokens in (20, 40, 60, 80, 40, 20):
            machine.ask("cpu", tokens / 10, IDLE_W + 24.0, tokens)
        bills = [machine.open("cpu") for _ in range(2)]
        machine.watts, machine.moves = 30.0, False
        sysfs.fail(f"{PACKAGE}/energy_uj")
        machine.run(5.0)
        told = [machine.accounting.close(bill, "ok", machine.now_s, bill.begun_s + 1, Usage(100, 40)) for bill in bills]
        machine.run(25.0)
        lost = machine.rows[-2:]
    assert {row.kind for row in lost} == {"modelled"}
    # Each has half of the device's five seconds.
    own_j = IDLE_W * 2.5
    assert [(row.full_j or 0) - (row.marginal_j or 0) for row in lost] == [pytest.approx(own_j, rel=0.02)] * 2
    assert [(one.full_j or 0) - (one.joules or 0) for one in told] == [pytest.approx(own_j, rel=0.02)] * 2


def test_a_long_request_alone_is_told_what_the_meter_shows_so_far() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        bill = machine.open("cpu")
        machine.watts = 30.0
        machine.run(20.0)
        figure = machine.accounting.close(bill, "ok", machine.now_s, bill.begun_s + 2, Usage(100, 400))
    assert figure.joules == pytest.approx(20.0 * 24.0, rel=0.03)
    assert figure.full_j == pytest.approx(20.0 * 30.0, rel=0.03)
    assert figure.kind == "measured"


def test_what_meters_show_reaches_the_decision() -> None:
    """20 W are configured; it draws 24 W above idleness, 4 s for 40 tokens."""
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        for tokens in (20, 40, 60, 80, 40, 20, 60):
            machine.ask("cpu", tokens / 10, IDLE_W + 24.0, tokens)
        rates = machine.fleet.look("cpu").rates[MODEL]
        bill = machine.open("cpu")
        machine.run(0.5)
        figure = machine.accounting.close(bill, "ok", machine.now_s, bill.begun_s + 0.1, Usage(100, 50))
    assert rates.decode_j is not None
    assert rates.fixed_j is not None
    assert rates.prefill_j is not None
    assert rates.fixed_j + 100 * rates.prefill_j + 50 * rates.decode_j == pytest.approx(24.0 * 5.0, rel=0.1)
    assert (figure.joules, figure.kind) == (pytest.approx(24.0 * 5.0, rel=0.1), "modelled")


def test_what_meters_have_shown_outlasts_a_restart() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        for tokens in (20, 40, 60, 80, 40, 20, 60):
            machine.ask("cpu", tokens / 10, IDLE_W + 24.0, tokens)
        before = machine.fleet.look("cpu").rates[MODEL]
        kept = msgspec.json.encode(machine.accounting.save_joules())
    saved = msgspec.json.decode(kept, type=dict[str, SavedJoules])
    for emulated in (False, True):
        fleet = Fleet()
        fleet.add(machine.fleet.look("cpu").spec, CAN)
        fleet.probed("cpu", ProbeReport({MODEL: ModelFacts(MODEL)}, emulated=emulated), 0)
        Accounting(fleet).restore_joules({**saved, "gone": saved["cpu"]}, 3600.0, 5.0)
        after = fleet.look("cpu").rates.get(MODEL)
        assert (after is None) is emulated, "an emulated device is another one"
        if after is not None:
            assert after.decode_j == pytest.approx(before.decode_j, rel=0.1)
            assert after.fixed_j == pytest.approx(before.fixed_j, rel=0.3)


def test_the_static_rule_that_chooses_the_same_saves_nothing() -> None:
    with FakeSysfs() as sysfs:
        row = Machine(sysfs, "cpu").ask("cpu", 2.0, 30.0)
    assert row.static_j == row.marginal_j


def test_what_is_no_work_is_not_billed() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        with pytest.raises(AssertionError):
            machine.open("cpu", Operation.SHOW)
        assert machine.accounting.close(None, "ok", machine.now_s).joules is None


def test_whatever_waits_for_a_meter_at_the_end_is_written_down() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        bill = machine.open("cpu")
        machine.run(1.0)
        machine.accounting.close(bill, "ok", machine.now_s, None, Usage(100, 40))
        machine.accounting.finish(machine.now_s)
    assert [row.outcome for row in machine.rows] == ["ok"]


def test_the_static_rule_that_chooses_another_is_reckoned_with_what_there_was_to_do() -> None:
    """It prefers the quicker one whatever that draws: 100 prompt tokens and 40 more at 60 W, by its speeds."""
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cloud")
        quick = BackendSpec("quick", "ollama", "quick", "nvidia", 60.0, 100, 40, priority=9)
        machine.fleet.add(quick, CAN)
        machine.fleet.probed("quick", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
        rows = {}
        for result in ("ok", "failed", "cancelled"):
            request = RoutingRequest(MODEL, MODEL, CAN, NO_ANNOTATIONS, 100.0, 0, embed=False)
            decision = decide(request, machine.fleet.view(), Policy(lambda_watts=0.0))
            assert isinstance(decision, Decision)
            assert decision.backend == "cloud"
            call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, machine.now_s, Generation)
            bill = machine.accounting.open(machine.fleet.look("cloud"), call, decision, request, machine.now_s)
            machine.run(2.0)
            machine.accounting.close(bill, result, machine.now_s, None, Usage(100, 40))
            machine.run(1.0)
            rows[result] = machine.rows[-1]
    assert rows["ok"].static_j == pytest.approx(60.0 * (0.1 + 100 / 600 + 40 / 40))
    assert rows["failed"].static_j == 0.0
    assert rows["cancelled"].static_j is None


def test_a_server_that_never_answered_shares_nobodys_meter() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs, "cpu")
        machine.fleet.add(BackendSpec("npu", "ollama", "npu", "npu", 3.0, 500, 20), CAN)
        machine.entries["npu"] = Backend(id="npu", endpoint=HOME, hardware="npu")
        assert machine.ask("cpu", 2.0, 30.0).kind == "measured"
        machine.fleet.probed("npu", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
        machine.run(1.0)
        assert {one.backends for one in machine.accounting.meters()} == {("cpu", "npu")}


@pytest.mark.parametrize(("emulated", "kind"), [(True, "emulated"), (False, "apportioned")])
def test_a_meter_that_is_shared_tells_what_its_figures_are(emulated: bool, kind: str) -> None:
    plug = Source("plug", "command", "other", "", kind="emulated" if emulated else "measured")
    times = {name: SharedTime() for name in ("a", "b")}
    plan = Plan((plug,), tuple(Member(name, 10.0) for name in times), emulated)
    assert SharedMeter(plan, times, Sampler(())).kind_of(plug) == kind
