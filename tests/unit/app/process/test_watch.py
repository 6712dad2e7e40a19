"""When a changed file is told."""

from __future__ import annotations

import os
from pathlib import Path

from ollama_proxy.app.process.watch import Watch


def touch(path: Path, text: str, moment_s: int) -> None:
    path.write_text(text)
    os.utime(path, (moment_s, moment_s))


def test_a_change_is_told_once_and_when_it_stands_still(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    touch(file, "a", 1)
    watch = Watch(lambda: [file])
    assert not watch.look()
    touch(file, "ab", 2)
    assert not watch.look()
    touch(file, "abc", 3)
    assert not watch.look()
    assert watch.look()
    assert not watch.look()


def test_another_file_in_its_place_is_a_change(tmp_path: Path) -> None:
    file, other = tmp_path / "config.yaml", tmp_path / "other"
    touch(file, "a", 1)
    touch(other, "b", 1)
    watch = Watch(lambda: [file])
    other.replace(file)
    assert [watch.look(), watch.look()] == [False, True]


def test_a_file_that_is_away_for_a_while_is_told_when_it_is_back(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    touch(file, "a", 1)
    watch = Watch(lambda: [file])
    file.unlink()
    assert [watch.look() for _ in range(3)] == [False] * 3
    touch(file, "a", 2)
    assert [watch.look() for _ in range(3)] == [False, True, False]


def test_what_is_watched_may_change(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    touch(one, "a", 1)
    touch(two, "a", 1)
    watched = [one]
    watch = Watch(lambda: watched)
    watched.append(two)
    assert [watch.look(), watch.look(), watch.look()] == [False, True, False]
    touch(two, "b", 5)
    assert [watch.look(), watch.look()] == [False, True]
