"""`ollama-proxy ledger`: a table for people, a document for programs, plain words where there is nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from ollama_proxy.cli.ledger_report import render_summary
from ollama_proxy.cli.main import app
from ollama_proxy.energy.ledger.file import open_for_reading
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.ledger.summary import Accounting, By, Tariff, summarise
from ollama_proxy.energy.ledger.writer import Ledger

#: 2026-11-28 12:00 UTC.
NOON = 1_795_867_200.0
HOUR = 3600.0
SPAN = (NOON - 24 * HOUR, NOON)

MEASURED = LedgerRow(
    request_id="1",
    unix_s=NOON - HOUR,
    model="llama3:7b",
    backend="ollama-nvidia",
    key="ann",
    way_in="openai",
    prompt_tokens=900,
    output_tokens=200,
    marginal_j=3600.0,
    full_j=4000.0,
    plus_minus_j=72.0,
    kind="measured",
    seconds=4.0,
    static_j=4500.0,
)


def change(**fields: object) -> LedgerRow:
    return msgspec.structs.replace(MEASURED, **fields)


ROWS = (
    MEASURED,
    change(request_id="2", marginal_j=1200.0, kind="modelled", plus_minus_j=600.0, static_j=None),
    change(request_id="3", model="qwen2.5:0.5b", key="", marginal_j=9.0, plus_minus_j=1.0, static_j=12.0),
    change(
        request_id="4", model="claude", marginal_j=None, full_j=None, plus_minus_j=None, kind="unknown", static_j=None
    ),
)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    write(path, ROWS)
    return path


def write(path: Path, rows: tuple[LedgerRow, ...]) -> None:
    ledger = Ledger(path, unix_clock=lambda: NOON)
    for row in rows:
        ledger.record(row)
    ledger.close()


def render(path: Path, tariff: Tariff, by: By = "model", accounting: Accounting = "marginal") -> str:
    connection = open_for_reading(path)
    assert connection is not None
    summary = summarise(connection, by, *SPAN, accounting)
    connection.close()
    return render_summary(summary, tariff, SPAN, "ledger.sqlite")


TABLE = """\
Energy of 4 requests, 2026-11-27 12:00 to 2026-11-28 12:00 (ledger.sqlite)

model         requests  tokens in  out   energy  error      Wh      EUR   g CO2         saved  figures
llama3:7b            2      1,800  400   4.8 kJ  ±14 %    1.33   0.0004  0.5333  900 J (20 %)  FIGURES
qwen2.5:0.5b         1        900  200      9 J  ±11 %  0.0025  <0.0001  0.0010    3 J (25 %)  measured
claude               1        900  200        -              -        -       -             -  unknown for 1
RULE
total                4      3,600  800  4.81 kJ  ±14 %    1.34   0.0004  0.5343  903 J (20 %)  FIGURES, unknown for 1

Energy is above idle (marginal).
1 attempt without a figure: nobody knows what their backends draw.
Saved: against what the static rule would have spent, modelled, on 2 of 4 attempts."""


@pytest.mark.usefixtures("utc")
def test_the_table(path: Path) -> None:
    expected = TABLE.replace("FIGURES", "measured 75 %, modelled 25 %").replace("RULE", "-" * 138)
    assert render(path, Tariff(0.3, "EUR", 400)) == expected


def test_what_nobody_said_has_no_column(path: Path) -> None:
    text = render(path, Tariff(None, "EUR", None))
    assert "EUR" not in text
    assert "CO2" not in text
    assert "(full)" in render(path, Tariff(), accounting="full")
    assert "(none)" in render(path, Tariff(), "key")
    assert "2026-11-2" in render(path, Tariff(), "day").splitlines()[3]


def test_what_a_sum_leaves_out_is_said(path: Path) -> None:
    write(path, (change(request_id="5", full_j=None), change(request_id="6", marginal_j=None)))
    unknown = "\n1 attempt without a figure: nobody knows what their backends draw.\n"
    for accounting, left_out in (("marginal", "idle. See --accounting full."), ("full", "See --accounting marginal.")):
        text = render(path, Tariff(), accounting=accounting)  # type: ignore[arg-type]
        assert unknown in text
        (line,) = [line for line in text.splitlines() if line.startswith("1 attempt left out: ")]
        assert line.endswith(left_out)
        assert "unknown for 2" in text


def test_names_cannot_steer_a_terminal(path: Path) -> None:
    write(path, (change(model="\x1b[2J" + "x" * 100),))
    text = render(path, Tariff())
    assert "\x1b" not in text
    assert "x" * 35 + "…" in text


def test_trifles_are_not_rounded_to_nothing(path: Path) -> None:
    write(path, (change(request_id="9", marginal_j=0.5, kind="apportioned", static_j=0.1),))
    text = render(path, Tariff())
    assert "apportioned <1 %" in text
    write(path, (change(request_id="10", model="worse", static_j=3000.0),))
    assert "-600 J (-20 %)" in render(path, Tariff())


def run(*arguments: str, config: str = "energy: {price_per_kwh: 0.3}\n", folder: Path) -> tuple[int, str, str]:
    (folder / "c.yaml").write_text(config)
    found = CliRunner().invoke(app, ["ledger", "--config", str(folder / "c.yaml"), *arguments])
    return found.exit_code, found.stdout, found.stderr


def test_the_command_reads_the_configured_file(path: Path, tmp_path: Path) -> None:
    config = f"energy: {{ledger_path: {path}, price_per_kwh: 0.36, currency: CHF}}\n"
    code, out, err = run(
        "--since", "2026-11-01", "--until", "2026-12-01", "--by", "backend", config=config, folder=tmp_path
    )
    assert (code, err) == (0, "")
    assert "ollama-nvidia" in out
    assert "CHF" in out


def test_for_programs(path: Path, tmp_path: Path) -> None:
    code, out, _ = run("--file", str(path), "--since", "2026-11-01", "--until", "2026-12-01", "--json", folder=tmp_path)
    document = json.loads(out)
    assert code == 0
    assert [group["name"] for group in document["groups"]] == ["llama3:7b", "qwen2.5:0.5b", "claude"]
    first, _, claude = document["groups"]
    assert first["joules"] == 4800
    assert first["wh"] == pytest.approx(4800 / 3600)
    assert first["cost"] == pytest.approx(4800 / 3.6e6 * 0.3)
    assert first["carbon_g"] is None
    assert first["kinds"] == {"measured": {"attempts": 1, "joules": 3600}, "modelled": {"attempts": 1, "joules": 1200}}
    assert (first["static_j"], first["saved_j"], first["attempts_compared"]) == (4500, 900, 1)
    assert (claude["joules"], claude["cost"], claude["attempts_without_figure"]) == (None, None, 1)
    assert document["total"]["requests"] == 4


def test_seven_days_are_shown_unless_said_otherwise(path: Path, tmp_path: Path) -> None:
    now = time.time()
    ledger = Ledger(path)
    for days in (0, 6, 8):
        ledger.record(change(request_id=f"{days} days", unix_s=now - days * 86_400, model="new"))
    ledger.close()
    counts = {}
    for since in ("", "1h", "2w", "7d"):
        arguments = ["--since", since] if since else []
        _, out, _ = run("--file", str(path), "--json", *arguments, folder=tmp_path)
        counts[since] = sum(group["requests"] for group in json.loads(out)["groups"] if group["name"] == "new")
    assert counts == {"": 2, "1h": 1, "2w": 3, "7d": 2}


def test_nothing_in_that_time_is_said(path: Path, tmp_path: Path) -> None:
    code, out, _ = run("--file", str(path), "--since", "2020-01-01", "--until", "2020-01-02", folder=tmp_path)
    assert code == 0
    assert "Nothing ended in that time" in out


@pytest.mark.parametrize("since", ["7", "d", "yesterday", "-7d", "7 d", "99999999d", "2026-13-01"])
def test_a_time_that_is_none_is_refused(path: Path, tmp_path: Path, since: str) -> None:
    code, _, err = run("--file", str(path), f"--since={since}", folder=tmp_path)
    assert code == 2
    assert "neither a span such as 7d nor a date" in " ".join(err.replace("│", " ").split())


def test_a_span_may_go_back_beyond_all_time(path: Path, tmp_path: Path) -> None:
    code, out, _ = run("--file", str(path), "--since", "999999w", folder=tmp_path)
    assert code == 0
    assert "1970-01-01" in out


def test_a_damaged_ledger_is_told_in_words(path: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE requests")
    connection.execute("CREATE TABLE rest (id)")
    connection.close()
    code, _, err = run("--file", str(path), folder=tmp_path)
    assert code == 2
    assert "cannot be read: no such table" in err


def test_no_ledger_and_no_ledger_at_all(tmp_path: Path) -> None:
    code, _, err = run("--file", str(tmp_path / "none"), folder=tmp_path)
    assert code == 1
    assert "there is no ledger at" in err
    connection = sqlite3.connect(tmp_path / "other")
    connection.execute("CREATE TABLE things (id)")
    connection.close()
    code, _, err = run("--file", str(tmp_path / "other"), folder=tmp_path)
    assert code == 2
    assert "another program" in err
    assert not (tmp_path / "none").exists()
