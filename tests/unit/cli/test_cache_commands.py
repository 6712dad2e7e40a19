"""What `ollama-proxy cache` prints, and what it says of files that hold no pairs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_proxy.cache.calibration import Judged, Pair, judge, suggest
from ollama_proxy.cli import cache, cache_calibrate

FOUND = {
    "type": "sqlite",
    "entries": 3,
    "bytes": 2_500_000,
    "max_bytes": 1_024_000_000,
    "evicted": 1,
    "requests": {"hit": 4, "similar": 5, "joined": 6, "miss": 7, "bypass": 8},
    "saved_joules": {"measured": 12.34, "modelled": 0.5},
}


def test_it_shows_what_is_kept_and_saved() -> None:
    text = cache.render(FOUND)
    assert "3 in sqlite, 2.50 of 1024 MB" in text
    assert "4 hits, 5 to prompts that mean the same, 6 with an equal request under way, 7 misses, 8 went past" in text
    assert "12.3 J (measured), 0.5 J (modelled)" in text
    assert "Problem" not in text
    assert "nothing yet" in cache.render(FOUND | {"saved_joules": {}})
    assert "no route" in cache.render(FOUND | {"problem": "no route"})


def test_the_calibration_names_a_threshold_and_what_slips_through() -> None:
    judged = [Judged(Pair("a", "b", True), 0.95, ""), Judged(Pair("c", "d", False), 0.85, "")]
    rows = [(judge(judged, 0.9), judge(judged, 0.9, guarded=False))]
    text = cache_calibrate.render(judged, rows, suggest(judged))
    assert "1 pairs mean the same, 1 do not" in text
    assert "cache.semantic.threshold: 0.86 finds 100.0 % with 0 wrong" in text
    assert "0.850  c | d" in text
    none = [Judged(Pair("c", "d", False), 1.0, "")]
    assert "leave the semantic cache off" in cache_calibrate.render(none, rows, suggest(none))


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "holds no pairs"), ("{}", "line 1"), ('{"a": "x", "b": "y", "same": true}\nnothing', "line 2")],
)
def test_a_file_without_pairs_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    found = CliRunner().invoke(cache.app, ["calibrate", str(path)])
    assert found.exit_code == 2
    assert told in found.output
    found = CliRunner().invoke(cache.app, ["calibrate", str(tmp_path / "nowhere")])
    assert found.exit_code == 2
