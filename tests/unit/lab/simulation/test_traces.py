"""Trace files: what is read, what is refused and in which words, slices, stretched time."""

import gzip
import itertools
import os
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.lab.simulation.traces import Row, TraceError, read_trace, stretch_rows, take_slice

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_timestamps_of_seven_digits_exactly(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:46.6805901,396,109\n")
    first, second = read_trace(path)
    assert second.at_ns - first.at_ns == 100
    assert (first.number, first.prompt_tokens, first.output_tokens) == (0, 374, 44)
    assert second.number == 1


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    text = HEADER + "2023-11-16 18:15:46,1,2\n"
    plain = write(tmp_path, text)
    zipped = tmp_path / "other.csv"
    zipped.write_bytes(gzip.compress(text.encode()))
    assert read_trace(plain) == read_trace(zipped)


def test_columns_are_found_by_name_and_zones_are_heeded(tmp_path: Path) -> None:
    text = (
        "\ufeffuser, GeneratedTokens,TIMESTAMP,ContextTokens\r\n"
        "a,2,2024-05-10T02:00:00.5+02:00,1\r\n\r\nb,4,2024-05-10 00:00:01Z,3\r\n"
    )
    first, second = read_trace(write(tmp_path, text))
    assert (first.prompt_tokens, first.output_tokens, second.prompt_tokens, second.output_tokens) == (1, 2, 3, 4)
    assert second.at_ns - first.at_ns == 500_000_000


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        ("TIMESTAMP,ContextTokens\n", 1, "no column GeneratedTokens"),
        (HEADER + "yesterday,1,2\n", 2, "TIMESTAMP 'yesterday' is no time like"),
        (HEADER + "2023-13-16 18:15:46,1,2\n", 2, "is no time like"),
        (HEADER + "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:47,1\n", 3, "has 2 columns"),
        (HEADER + "2023-11-16 18:15:46,-1,2\n", 2, "ContextTokens '-1' is no number of tokens"),
        (HEADER + "2023-11-16 18:15:46,1,2.5\n", 2, "GeneratedTokens '2.5' is no number of tokens"),
        (HEADER + "2023-11-16 18:15:46,1,²\n", 2, "GeneratedTokens '²' is no number of tokens"),
        (HEADER + "2023-11-16 18:15:46,1,999999999999\n", 2, "is no number of tokens"),
        (HEADER + "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:45,1,2\n", 3, "earlier than the line before"),
        (HEADER + '"2023-11-16 18:15:46"x,1,2\n', 2, "not valid CSV"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_faults_of_the_whole_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "missing.csv")
    with pytest.raises(TraceError, match="holds no request"):
        read_trace(write(tmp_path, HEADER))
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress((HEADER + "2023-11-16 18:15:46,1,2\n" * 50).encode())[:-12])
    with pytest.raises(TraceError, match="broken gzip"):
        read_trace(broken)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(binary)


def rows(count: int) -> list[Row]:
    return [Row(number, number * number * 1_000, 1, 1) for number in range(count)]


@given(st.integers(1, 200), st.integers(1, 20))
def test_slices_are_disjoint_contiguous_and_cover_all(count: int, parts: int) -> None:
    parts = min(parts, count)
    slices = [list(take_slice(rows(count), part, parts)) for part in range(1, parts + 1)]
    assert [row for one in slices for row in one] == rows(count)
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_slice_limits_and_refusals() -> None:
    assert [row.number for row in take_slice(rows(9), 2, 3, 2)] == [3, 4]
    for part, parts in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(TraceError, match="1 <= K <= N"):
            take_slice(rows(9), part, parts)
    with pytest.raises(TraceError, match="only 9 requests"):
        take_slice(rows(9), 1, 10)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.floats(0.1, 1000))
def test_stretching_keeps_rows_and_proportions(gaps_ns: list[int], rate_per_min: float) -> None:
    at_ns, trace = 1_700_000_000_000_000_000, []
    for number, gap_ns in enumerate([0, *gaps_ns]):
        at_ns += gap_ns
        trace.append(Row(number + 7, at_ns, number, number + 1))
    if sum(gaps_ns) == 0:
        with pytest.raises(TraceError, match="same time"):
            stretch_rows(trace, rate_per_min)
        return
    arrivals = stretch_rows(trace, rate_per_min)
    assert [(one.id, one.prompt_tokens, one.output_tokens) for one in arrivals] == [
        (row.number, row.prompt_tokens, row.output_tokens) for row in trace
    ]
    assert arrivals[0].at_s == 0.0
    assert arrivals[-1].at_s == pytest.approx(len(gaps_ns) * 60 / rate_per_min)
    factor = arrivals[-1].at_s / sum(gaps_ns)
    for before, after, gap_ns in zip(arrivals, arrivals[1:], gaps_ns, strict=False):
        assert after.at_s - before.at_s == pytest.approx(gap_ns * factor, abs=1e-6)


def test_one_row_needs_no_rate() -> None:
    assert stretch_rows(rows(1), 5.0)[0].at_s == 0.0


@pytest.mark.skipif("OLLAMA_PROXY_TRACES" not in os.environ, reason="OLLAMA_PROXY_TRACES names no folder of traces")
def test_recorded_chat_has_the_published_statistics() -> None:
    found = sorted(Path(os.environ["OLLAMA_PROXY_TRACES"]).glob("azure_llm_2023_conv*.csv*"))
    if not found:
        pytest.skip("no conversation trace in the folder")
    arrivals = stretch_rows(read_trace(found[0]), 5.0)
    gaps = [after.at_s - before.at_s for before, after in itertools.pairwise(arrivals)]
    assert statistics.fmean(gaps) == pytest.approx(12.0)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(1.09, rel=0.05)
    assert statistics.median(one.prompt_tokens for one in arrivals) == pytest.approx(1_020, rel=0.05)
