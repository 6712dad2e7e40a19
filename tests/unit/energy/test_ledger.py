"""The ledger: every row comes back, a kill costs no more than the last second, strangers' files stay as they are."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_proxy.energy.ledger import writer
from ollama_proxy.energy.ledger.file import (
    VERSION,
    LedgerError,
    default_path,
    open_for_reading,
    open_for_writing,
)
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.ledger.summary import Accounting, By, KindShare, Summary, Tariff, summarise
from ollama_proxy.energy.ledger.writer import MAX_WAITING, Ledger
from tests.support.processes import ROOT
from tests.support.sysfs import FakeSysfs, as_nobody

NOON = 1_796_040_000.0
DAY = 86_400.0


def row(name: str = "r", **changes: object) -> LedgerRow:
    first = LedgerRow(name, NOON, "m:7b", "gpu", "ann", "openai", "ok", 100, 20, 40.0, 50.0, 4.0, "measured", 2.5, 60.0)
    return msgspec.structs.replace(first, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    made = Ledger(path, unix_clock=lambda: NOON)
    yield made
    made.close()


def read_rows(path: Path) -> list[LedgerRow]:
    connection = open_for_reading(path)
    assert connection is not None
    columns = ", ".join(LedgerRow.__struct_fields__)
    rows = [LedgerRow(*values) for values in connection.execute(f"SELECT {columns} FROM requests ORDER BY id")]
    connection.close()
    return rows


def sum_up(path: Path, by: By = "model", accounting: Accounting = "marginal") -> Summary:
    connection = open_for_reading(path)
    assert connection is not None
    found = summarise(connection, by, 0, 1e12, accounting)
    connection.close()
    return found


def test_rows_come_back_as_they_were(ledger: Ledger, path: Path) -> None:
    rows = [row("a"), row("b", marginal_j=None, full_j=None, plus_minus_j=None, static_j=None, kind="unknown")]
    rows.append(row("ü'\"; --", model="", prompt_tokens=None, output_tokens=None, outcome="left"))
    for one in rows:
        ledger.record(one)
    assert ledger.flush()
    assert read_rows(path) == rows


def test_the_thread_writes_by_itself_and_closing_writes_the_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_S", 0.0)
    written = threading.Event()
    ledger = Ledger(path, unix_clock=lambda: NOON)
    flush = ledger.flush
    monkeypatch.setattr(ledger, "flush", lambda: (flush(), written.set())[0])
    ledger.record(row("a"))
    assert written.wait(60)
    ledger.record(row("b"))
    ledger.close()
    assert [one.request_id for one in read_rows(path)] == ["a", "b"]


def test_many_threads_may_record(ledger: Ledger, path: Path) -> None:
    def record(thread: int) -> None:
        for number in range(500):
            ledger.record(row(f"{thread}-{number}"))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert ledger.flush()
    assert len({one.request_id for one in read_rows(path)}) == 2000


def test_two_programs_may_write_one_file(ledger: Ledger, path: Path) -> None:
    other = Ledger(path, unix_clock=lambda: NOON)
    for number in range(20):
        (ledger, other)[number % 2].record(row(str(number)))
        assert ledger.flush()
        assert other.flush()
    other.close()
    assert len(read_rows(path)) == 20


def test_the_file_is_its_owners(ledger: Ledger, path: Path) -> None:
    ledger.record(row())
    ledger.flush()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


_WRITES_FOR_EVER = """
import itertools, sys
from pathlib import Path
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.ledger.writer import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in itertools.count():
    ledger.record(LedgerRow(str(number), 1796040000.0, "m", "b", marginal_j=1.0))
    if number % 7 == 6:
        ledger.flush()
        print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 5, 17, 60])
def test_a_kill_loses_nothing_that_was_written(path: Path, lines: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", _WRITES_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    ledger = Ledger(path, unix_clock=lambda: NOON)
    ledger.record(row("after"))
    assert ledger.flush()
    names = [one.request_id for one in read_rows(path)]
    assert names == [*map(str, range(len(names) - 1)), "after"]
    assert len(names) - 1 >= told[-1] + 1
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    ledger.close()


def test_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    connection = open_for_writing(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    for open_it in (open_for_writing, open_for_reading, Ledger):
        with pytest.raises(LedgerError, match=f"has version {VERSION + 1}, and this program knows {VERSION} at most"):
            open_it(path)
    assert path.read_bytes() == before


def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    database, text = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE things (id)")
    connection.commit()
    connection.close()
    text.write_text("not a database, but long enough to be read as one" * 100)
    for file, message in ((database, "of another program"), (text, "not a database")):
        before = file.read_bytes()
        for open_it in (open_for_writing, open_for_reading):
            with pytest.raises(LedgerError, match=message):
                open_it(file)
        assert file.read_bytes() == before


def test_a_place_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened"):
        open_for_writing(tmp_path / "file" / "ledger.sqlite")


def test_what_is_no_file_is_refused_before_anybody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, what in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        for open_it in (open_for_writing, open_for_reading):
            with pytest.raises(LedgerError, match=f"is .*{what}.* and no ledger"):
                open_it(place)


def test_a_place_without_rights_is_said_and_a_read_only_one_is_read() -> None:
    with FakeSysfs() as open_to_all:
        folder = open_to_all.root / "kept"
        made = Ledger(folder / "ledger.sqlite")
        made.record(row())
        made.close()
        (folder / "ledger.sqlite").chmod(0o644)
        folder.chmod(0o555)
        with as_nobody():
            connection = open_for_reading(folder / "ledger.sqlite")
            assert connection is not None
            assert connection.execute("SELECT COUNT(*) FROM requests").fetchone() == (1,)
            connection.close()
        folder.chmod(0)
        with as_nobody(), pytest.raises(LedgerError, match="Permission denied"):
            open_for_reading(folder / "ledger.sqlite")
        folder.chmod(0o700)


def test_no_file_and_an_empty_file_are_no_ledger_yet(tmp_path: Path) -> None:
    assert open_for_reading(tmp_path / "none") is None
    (tmp_path / "empty").touch()
    assert open_for_reading(tmp_path / "empty") is None


def test_old_rows_go(path: Path) -> None:
    now = [NOON]
    ledger = Ledger(path, retention_days=30, unix_clock=lambda: now[0])
    for days in (40, 31, 29, 0):
        ledger.record(row(f"{days} days", unix_s=NOON - days * DAY))
    ledger.flush()
    now[0] += 2 * 3600
    ledger.flush()
    assert [one.request_id for one in read_rows(path)] == ["29 days", "0 days"]
    now[0] += 2 * DAY
    ledger.flush()
    assert [one.request_id for one in read_rows(path)] == ["0 days"]
    ledger.close()


def test_rows_wait_while_the_file_is_held_by_another(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ollama_proxy.energy.ledger.file._WAIT_S", 0.0)
    ledger = Ledger(path, unix_clock=lambda: NOON)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for number in range(5):
        ledger.record(row(str(number)))
    assert not ledger.flush()
    assert not ledger.flush()
    assert caplog.text.count("cannot be written") == 1
    holder.execute("ROLLBACK")
    holder.close()
    assert ledger.flush()
    assert [one.request_id for one in read_rows(path)] == ["0", "1", "2", "3", "4"]
    ledger.close()


def test_what_waits_is_bounded_and_the_loss_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_proxy.energy.ledger.file._WAIT_S", 0.0)
    ledger = Ledger(path, unix_clock=lambda: NOON)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for number in range(MAX_WAITING + 10):
        ledger.record(row(str(number)))
    holder.execute("ROLLBACK")
    holder.close()
    ledger.close()
    assert ledger.dropped == 10
    assert read_rows(path)[-1].request_id == str(MAX_WAITING + 9)


def test_a_row_that_no_column_takes_does_not_hold_up_the_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Ledger(path, unix_clock=lambda: NOON)
    for one in (row("1"), row("2", output_tokens=10**20), row("3", model="\ud800"), row("4")):
        made.record(one)
    made.close()
    assert [one.request_id for one in read_rows(path)] == ["1", "4"]
    assert made.dropped == 2
    assert "cannot be written and is lost" in caplog.text


def test_where_it_lies_by_default() -> None:
    assert default_path({"XDG_STATE_HOME": "/state"}) == Path("/state/ollama-proxy/ledger.sqlite")
    assert default_path({"XDG_STATE_HOME": "relative"}) == default_path({})
    assert default_path({}) == Path.home() / ".local/state/ollama-proxy/ledger.sqlite"


# -- sums --------------------------------------------------------------------------


def test_sums_by_each_name(ledger: Ledger, path: Path) -> None:
    for one in (
        row("1", key="ann"),
        row("2", key="bob", backend="npu", marginal_j=10.0, full_j=30.0, kind="apportioned", static_j=None),
        row("3", key="bob", model="m:70b", kind="modelled", marginal_j=100.0, static_j=90.0),
        row("3", key="bob", model="m:70b", marginal_j=5.0, static_j=0.0, outcome="failed"),
        row("4", key="eve", backend="cloud", marginal_j=None, full_j=None, plus_minus_j=None, kind="unknown"),
        row("5", unix_s=NOON - DAY),
    ):
        ledger.record(one)
    ledger.flush()
    models = sum_up(path)
    assert [(one.name, one.requests, one.attempts, one.joules) for one in models.groups] == [
        ("m:70b", 1, 2, 105.0),
        ("m:7b", 4, 4, 90.0),
    ]
    assert models.groups[0].kinds == {"measured": KindShare(1, 5.0), "modelled": KindShare(1, 100.0)}
    assert models.groups[1].unknown == 1
    assert models.total.requests == 5
    assert models.total.joules == pytest.approx(195)
    assert models.total.plus_minus_j == pytest.approx(5 * 4)
    assert models.total.compared == 4
    assert models.total.static_j == pytest.approx(60 + 90 + 0 + 60)
    assert models.total.saved_j == pytest.approx((60 + 90 + 0 + 60) - (40 + 100 + 5 + 40))
    assert models.total.prompt_tokens == 600
    assert models.total.seconds == pytest.approx(15)
    assert [one.name for one in sum_up(path, "backend").groups] == ["gpu", "npu", "cloud"]
    assert [(one.name, one.joules) for one in sum_up(path, "key").groups] == [("bob", 115), ("ann", 80), ("eve", None)]
    days = sum_up(path, "day").groups
    assert [one.requests for one in days] == [1, 4]
    assert days[0].name < days[1].name
    full = sum_up(path, accounting="full")
    assert full.total.joules == pytest.approx(50 + 30 + 50 + 50 + 50)
    assert full.total.saved_j == models.total.saved_j


def test_a_span_of_time_and_nothing_in_it(ledger: Ledger, path: Path) -> None:
    ledger.record(row("1", unix_s=NOON))
    ledger.record(row("2", unix_s=NOON + 10))
    ledger.flush()
    connection = open_for_reading(path)
    assert connection is not None
    assert summarise(connection, "model", NOON, NOON + 10).total.requests == 1
    nothing = summarise(connection, "model", NOON + 11, NOON + 12)
    connection.close()
    assert nothing.groups == ()
    assert nothing.total.requests == 0
    assert nothing.total.joules is None


def test_money_and_carbon_only_where_somebody_said(ledger: Ledger, path: Path) -> None:
    ledger.record(row("1", marginal_j=3_600_000.0))
    ledger.record(row("2", model="cloud", marginal_j=None))
    ledger.flush()
    known, cloud = sum_up(path).groups
    assert known.cost(Tariff(0.32, "EUR", 380)) == pytest.approx(0.32)
    assert known.carbon_g(Tariff(0.32, "EUR", 380)) == pytest.approx(380)
    assert known.cost(Tariff()) is None
    assert known.carbon_g(Tariff()) is None
    assert cloud.cost(Tariff(0.32, "EUR", 380)) is None


joules = st.none() | st.floats(0, 1e6)
ROWS = st.lists(
    st.builds(
        LedgerRow,
        st.sampled_from(["1", "2", "3"]),
        st.floats(0, 1e9),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["a", "b", "c"]),
        kind=st.sampled_from(["measured", "modelled"]),
        marginal_j=joules,
        static_j=joules,
        prompt_tokens=st.none() | st.integers(0, 1000),
    ),
    max_size=30,
)


@given(ROWS)
@settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_groups_add_up_to_the_total_whatever_they_are(path: Path, rows: list[LedgerRow]) -> None:
    path.unlink(missing_ok=True)
    ledger = Ledger(path, retention_days=1e6, unix_clock=lambda: NOON)
    for one in rows:
        ledger.record(one)
    ledger.close()
    expected_j = sum(one.marginal_j or 0 for one in rows)
    for by in ("model", "backend", "key", "day"):
        summary = sum_up(path, by)
        assert sum(group.joules or 0 for group in summary.groups) == pytest.approx(expected_j)
        assert (summary.total.joules or 0) == pytest.approx(expected_j)
        assert sum(group.attempts for group in summary.groups) == len(rows) == summary.total.attempts
        for group in (*summary.groups, summary.total):
            assert sum(share.joules for share in group.kinds.values()) == pytest.approx(group.joules or 0)
            assert sum(share.attempts for share in group.kinds.values()) + group.unknown == group.attempts
