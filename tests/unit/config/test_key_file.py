"""The file of keys: what is in it, who may read it, and that nothing tears it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.config.key_file import (
    KeyFileError,
    StoredKey,
    changing,
    hash_key,
    load_keys,
    make_key,
    read_expiry,
    read_hash,
)
from tests.support.processes import ROOT


def stored(name: str, **more: Any) -> StoredKey:
    return StoredKey(name=name, key_hash=hash_key(name.encode()), created_unix_s=1.0, **more)


def test_keys_are_random_and_their_hash_is_no_way_back() -> None:
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("ocp_")
        # 43 characters of 6 bits each: what hold 256 bits.
        assert len(key) == 4 + 43
        assert key not in hash_key(key.encode())
        assert read_hash(hash_key(key.encode())) is not None


def test_the_file_holds_no_key_and_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "state" / "keys.json"
    with changing(file) as keys:
        keys.append(stored("bob", permissions=("infer", "models"), models=("qwen*",), wh_per_day=5))
    assert load_keys(file) == (stored("bob", permissions=("infer", "models"), models=("qwen*",), wh_per_day=5),)
    assert {oct(one.stat().st_mode & 0o777) for one in file.parent.iterdir()} == {"0o600"}
    assert file.parent.stat().st_mode & 0o077 == 0
    os.chmod(file, 0o644)
    with changing(file):
        pass
    assert file.stat().st_mode & 0o777 == 0o600


def test_whoever_fails_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with changing(file) as keys:
        keys.append(stored("bob"))
    with pytest.raises(ZeroDivisionError), changing(file) as keys:
        keys[:] = [1 // 0]  # type: ignore[list-item]
    assert [one.name for one in load_keys(file)] == ["bob"]


def test_two_who_change_it_at_once_take_turns(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    def add(number: int) -> None:
        with changing(file) as keys:
            keys.append(stored(f"k{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert sorted(one.name for one in load_keys(file)) == sorted(f"k{number}" for number in range(24))


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version":2,"keys":[]}', '{"version":1,"keys":[{"name":"ocp_secret"}]}', "\xff", "[" * 100_000],
)
def test_a_file_that_is_none_is_said_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyFileError) as caught:
        load_keys(file)
    assert "keys.json" in str(caught.value)
    assert "ocp_secret" not in str(caught.value)
    before = file.read_bytes()
    with pytest.raises(KeyFileError), changing(file):
        pass
    assert file.read_bytes() == before


def test_limits_without_a_word_in_them(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with changing(file) as keys:
        keys.append(stored("free"))
    assert '"models": []' in file.read_text(), "how no limit has always been written"
    assert load_keys(file)[0].models == ()
    file.write_text(file.read_text().replace('"models": []', '"models": [""]'))
    with pytest.raises(KeyFileError):
        load_keys(file)


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot be kept"), changing(tmp_path / "file" / "keys.json"):
        pass


def test_days_end_in_utc() -> None:
    assert read_expiry("") is None
    assert read_expiry("1970-01-02") == 86400
    assert read_expiry("1970-01-01T00:01Z") == read_expiry("1970-01-01T00:01:00") == 60


WRITER = """
import sys
from pathlib import Path
from ollama_proxy.config.key_file import changing
from tests.unit.config.test_key_file import stored
number = 0
while True:
    number += 1
    with changing(Path(sys.argv[1])) as keys:
        keys[:] = [stored(f"k{number}-{i}") for i in range(200)]
    print(number, flush=True)
"""


def test_a_kill_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    """What was reported as done is there, and nothing is half there."""
    file = tmp_path / "keys.json"
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    for pause_ms in (0, 3, 7):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, env=environ, text=True
        )
        assert child.stdout is not None
        done = int(child.stdout.readline())
        time.sleep(pause_ms / 1000)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        done = max([done, *(int(word) for word in rest)])
        names = [one.name for one in load_keys(file)]
        assert len(names) == 200
        [number] = {int(name[1:].partition("-")[0]) for name in names}
        assert number in (done, done + 1)
        json.loads(file.read_text())
