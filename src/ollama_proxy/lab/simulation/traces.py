"""Recorded workloads: CSV files, plain or gzip, with the columns TIMESTAMP, ContextTokens and GeneratedTokens.

This is the form of the published Azure LLM inference traces. A laptop serves requests a minute where such traces have
requests a second; therefore time is stretched and every row kept.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from ollama_proxy.lab.simulation.workload import Arrival

_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# As a float, a date of today has steps of 240 ns; the published files have steps of 100 ns. Hence whole nanoseconds.
_TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_TOKENS: Final = 100_000_000


class TraceError(Exception):
    """A workload that cannot be used: which file, which line, and what is wrong there."""


class Row(msgspec.Struct, frozen=True):
    """One line of a trace. `number` counts the rows of the whole file from 0, whatever slice is taken."""

    number: int
    at_ns: int  # since 1970, UTC where the file names no zone
    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path) -> tuple[Row, ...]:
    """Every row of the file, in order. Raises `TraceError`, which names file and line."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline="") as text:
            rows = tuple(_read_rows(text, path))
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise TraceError(f"{path}: is a broken gzip file") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not rows:
        raise TraceError(f"{path}: holds no request")
    return rows


def take_slice(rows: Sequence[Row], part: int, parts: int, limit: int | None = None) -> Sequence[Row]:
    """The `part`-th (from 1) of `parts` contiguous, disjoint slices, cut off after `limit` rows.

    Raises `TraceError` for a part that is not there or would be empty.
    """
    if not 1 <= part <= parts:
        raise TraceError(f"slice {part}/{parts}: expected K/N with 1 <= K <= N")
    if parts > len(rows):
        raise TraceError(f"slice {part}/{parts}: there are only {len(rows)} requests")
    found = rows[len(rows) * (part - 1) // parts : len(rows) * part // parts]
    return found if limit is None else found[:limit]


def stretch_rows(rows: Sequence[Row], rate_per_min: float) -> tuple[Arrival, ...]:
    """Arrivals from 0 s on, at `rate_per_min` requests a minute in the mean; the gaps keep their proportions.

    The mean gap is that between the first and the last row. Raises `TraceError` where all rows have one timestamp.
    """
    start_ns = rows[0].at_ns
    span_ns = rows[-1].at_ns - start_ns
    if span_ns == 0 and len(rows) > 1:
        raise TraceError(f"all {len(rows)} requests arrive at the same time, which no stretching changes")
    stretch = (len(rows) - 1) * 60.0 / rate_per_min / span_ns if span_ns else 0.0
    return tuple(
        Arrival(row.number, (row.at_ns - start_ns) * stretch, row.prompt_tokens, row.output_tokens) for row in rows
    )


def _read_rows(text: Iterator[str], path: Path) -> Iterator[Row]:
    lines = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        places = _find_columns(header, path)
        before_ns: int | None = None
        number = 0
        for line in lines:
            if not line:
                continue
            row = _read_row(line, places, number, f"{path}:{lines.line_num}")
            if before_ns is not None and row.at_ns < before_ns:
                _fail(f"{path}:{lines.line_num}", "is earlier than the line before; sort the file by TIMESTAMP")
            yield row
            before_ns = row.at_ns
            number += 1
    except csv.Error as error:
        raise TraceError(f"{path}:{lines.line_num}: not valid CSV: {error}") from None


def _find_columns(header: list[str], path: Path) -> tuple[int, int, int]:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        _fail(f"{path}:1", f"no column {', '.join(missing)}; the first line must name {','.join(_COLUMNS)}")
    timestamp, prompt, output = (header.index(name) for name in _COLUMNS)
    return timestamp, prompt, output


def _read_row(line: list[str], places: tuple[int, int, int], number: int, where: str) -> Row:
    if len(line) <= max(places):
        _fail(where, f"has {len(line)} columns, fewer than the first line")
    timestamp, prompt, output = (line[place].strip() for place in places)
    return Row(
        number,
        _read_timestamp_ns(timestamp, where),
        _read_tokens(prompt, "ContextTokens", where),
        _read_tokens(output, "GeneratedTokens", where),
    )


def _read_timestamp_ns(text: str, where: str) -> int:
    match = _TIMESTAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        date, fraction, zone = match.groups()
        moment = datetime.fromisoformat(date + (zone or "+00:00"))
    except ValueError:
        _fail(where, f"TIMESTAMP {text[:40]!r} is no time like 2023-11-16 18:15:46.6805900")
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def _read_tokens(text: str, column: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > _MAX_TOKENS:
        _fail(where, f"{column} {text[:40]!r} is no number of tokens")
    return int(text)


def _fail(where: str, message: str) -> NoReturn:
    raise TraceError(f"{where}: {message}")
