"""Whose key it is: found by its hash alone, until it is revoked or over, whatever strangers send."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from ollama_proxy.app.access.guard import Guard, is_near
from ollama_proxy.app.access.keyring import Keyring
from ollama_proxy.app.access.rate import RateLimiter
from ollama_proxy.config.key_file import KeyFileError, StoredKey, changing, hash_key, make_key
from ollama_proxy.config.schema import ApiKey, Auth, RateLimit
from ollama_proxy.domain.caller import ANYBODY, Permission
from ollama_proxy.domain.errors import ErrorKind
from ollama_proxy.net.credentials import CALLER, read_credentials

KEY, OTHER = make_key().encode(), make_key().encode()


class Stage:
    """A keyring over a file, and a clock."""

    def __init__(self, folder: Path, **entries: ApiKey) -> None:
        self.file = folder / "keys.json"
        self.unix_s = 1000.0
        self.auth = Auth(enabled=True, keys_file=str(self.file), api_keys=entries)
        self.keyring = Keyring(self.auth, {"A_KEY": KEY.decode()}, lambda: self.unix_s)
        self.guard = Guard(self.keyring)

    def store(self, **more: Any) -> None:
        entry = StoredKey(**{"name": "bob", "key_hash": hash_key(KEY), "created_unix_s": 1.0, **more})
        with changing(self.file) as keys:
            keys[:] = [one for one in keys if one.name != entry.name] + [entry]
        self.keyring.sweep()

    def status(self, key: bytes, permission: Permission = "infer", notes: dict[Any, Any] | None = None) -> int:
        fields = [(b"authorization", b"Bearer " + key)]
        error = self.guard.judge({} if notes is None else notes, fields, "10.0.0.1:5", permission)
        return error.kind.http_status if error is not None else 200


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_key_opens_from_the_second_on_in_which_it_was_added(stage: Stage) -> None:
    assert stage.status(KEY) == 401
    stage.store()
    assert stage.status(KEY) == 200
    assert stage.status(OTHER) == 401


def test_a_head_remembers_whose_it_is_until_the_key_is_revoked(stage: Stage) -> None:
    stage.store()
    notes: dict[Any, Any] = {}
    assert stage.status(KEY, notes=notes) == 200
    caller = notes[CALLER]
    assert (caller.name, caller.is_live) == ("bob", True)
    assert stage.status(b"", notes=notes) == 200, "the head is known: its key is not read again"
    stage.store(revoked_unix_s=5.0)
    assert not caller.is_live
    assert stage.status(KEY, notes=notes) == 401
    assert CALLER not in notes


def test_a_changed_key_is_another_caller_with_the_same_books(stage: Stage) -> None:
    stage.store(requests_per_minute=5)
    first = stage.keyring.find([KEY])
    stage.store(requests_per_minute=5, permissions=("infer", "admin"))
    second = stage.keyring.find([KEY])
    assert first is not None
    assert second is not None
    assert (first.is_live, second.is_live) == (False, True)
    assert first.quota is second.quota is not None
    assert stage.status(KEY, "admin") == 200


def test_a_key_says_whether_its_streams_go_on_elsewhere(stage: Stage) -> None:
    stage.store()
    stage.store(name="ada", key_hash=hash_key(OTHER), continuation="never")
    found = [stage.keyring.find([key]) for key in (KEY, OTHER)]
    assert [one.continues for one in found if one is not None] == [True, False]


def test_somebody_elses_key_changes_nothing_for_others(stage: Stage) -> None:
    stage.store()
    mine = stage.keyring.find([KEY])
    stage.store(name="eve", key_hash=hash_key(OTHER))
    assert stage.keyring.find([KEY]) is mine
    assert stage.keyring.find([OTHER]) is not mine


def test_a_key_ends_on_its_day(stage: Stage) -> None:
    stage.store(expires="1970-01-02")
    notes: dict[Any, Any] = {}
    assert stage.status(KEY, notes=notes) == 200
    stage.unix_s = 86400.0
    assert stage.status(KEY) == 401
    stage.keyring.sweep()
    assert stage.status(KEY, notes=notes) == 401


def test_keys_stay_as_they_were_when_the_file_is_torn_or_gone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.store()
    good = stage.file.read_bytes()
    for harm in (lambda: stage.file.write_bytes(good[:-20]), stage.file.unlink):
        harm()
        for _ in range(3):
            stage.keyring.sweep()
        assert stage.status(KEY) == 200
    assert len([one for one in caplog.records if "stay as they were" in one.message]) == 2


def test_keys_of_the_configuration(tmp_path: Path) -> None:
    stage = Stage(tmp_path, env=ApiKey(key_env="A_KEY"), off=ApiKey(key_hash=hash_key(OTHER), enabled=False))
    assert stage.status(KEY) == 200
    assert stage.status(OTHER) == 401
    other = msgspec.structs.replace(stage.auth, api_keys={"on": ApiKey(key_hash=hash_key(OTHER))})
    stage.guard.replace(other, stage.guard.read_keys(other), RateLimit())
    assert (stage.status(KEY), stage.status(OTHER)) == (401, 200)
    with pytest.raises(KeyFileError):
        stage.guard.read_keys(Auth(enabled=True, api_keys={"gone": ApiKey(key_file="/nonexistent")}))
    assert stage.status(OTHER) == 200


def test_whoever_is_connected_is_anybody_when_keys_are_checked_no_more(stage: Stage) -> None:
    stage.store(models=("qwen*",), requests_per_minute=1)
    notes: dict[Any, Any] = {}
    assert stage.status(KEY, notes=notes) == 200
    caller = notes[CALLER]
    off = msgspec.structs.replace(stage.auth, enabled=False)
    stage.guard.replace(off, stage.guard.read_keys(off), RateLimit())
    assert caller.is_free
    assert caller.may_use("llama")
    assert caller.quota is None
    stage.guard.replace(stage.auth, stage.guard.read_keys(stage.auth), RateLimit())
    assert stage.status(b"", notes=notes) == 401
    assert stage.status(KEY, notes=notes) == 200
    assert not notes[CALLER].may_use("llama")


def test_ten_thousand_strangers_are_strangers(stage: Stage) -> None:
    """Random bytes, the key with one bit changed, and what opens doors elsewhere: all of them 401, none an error."""
    stage.store()
    dice = Random(7)
    words = [b"' OR 1=1 --", b"../../etc/passwd", b"{{7*7}}", b"%n%s", b"\x00", b"null", b"*", hash_key(KEY).encode()]
    for number in range(10_000):
        at = number % len(KEY)
        kind = number % 4
        if kind == 0:
            value = dice.randbytes(dice.randrange(64))
        elif kind == 1:
            value = KEY[:at] + bytes([KEY[at] ^ (1 << dice.randrange(7))]) + KEY[at + 1 :]
        elif kind == 2:
            value = KEY[:at] if number % 8 == 2 else KEY + KEY[: at + 1]
        else:
            value = dice.choice(words) + dice.randbytes(3).hex().encode()
        header = dice.choice([b"authorization", b"x-api-key", b"api-key", b"sec-websocket-protocol"])
        prefix = {b"authorization": b"Bearer ", b"sec-websocket-protocol": b"key."}.get(header, b"")
        error = stage.guard.judge({}, [(header, prefix + value)], "10.0.0.1:5", "infer")
        assert error is not None
        assert error.kind is ErrorKind.UNAUTHENTICATED
        assert len(value) < 9 or value not in error.message.encode()


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([(b"authorization", b"Bearer a")], [b"a"]),
        ([(b"authorization", b"bearer  a ")], [b"a"]),
        ([(b"authorization", b"Basic a")], []),
        ([(b"authorization", b"a")], []),
        ([(b"x-api-key", b" a "), (b"api-key", b"b")], [b"a", b"b"]),
        ([(b"sec-websocket-protocol", b"chat, key.a")], [b"a"]),
        ([(b"cookie", b"key=a"), (b"x-key", b"a")], []),
        ([(b"x-api-key", b"%d" % n) for n in range(9)], [b"0", b"1", b"2", b"3"]),
    ],
)
def test_where_keys_are_looked_for(fields: list[tuple[bytes, bytes]], found: list[bytes]) -> None:
    assert read_credentials(fields) == found


def test_without_keys_only_this_machine_changes_models(tmp_path: Path) -> None:
    guard = Guard(Keyring(Auth(), {"XDG_STATE_HOME": str(tmp_path)}))
    for permission in ("open", "key", "infer"):
        assert guard.judge({}, [], "10.0.0.1:5", permission) is None  # type: ignore[arg-type]
    for permission in ("models", "admin"):
        assert guard.judge({}, [], "127.0.0.1:5", permission) is None  # type: ignore[arg-type]
        error = guard.judge({}, [], "10.0.0.1:5", permission)  # type: ignore[arg-type]
        assert error is not None
        assert error.kind is ErrorKind.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("::1:1", True),
        ("::ffff:127.0.0.1:1", True),
        ("local", True),
        ("10.0.0.1:1", False),
        ("::ffff:10.0.0.1:1", False),
        ("fe80::1%eth0:1", False),
        ("172.17.0.1:1", False),
        ("", False),
        ("localhost:1", False),
    ],
)
def test_who_is_near(peer: str, *, near: bool) -> None:
    assert is_near(peer) is near


def test_so_many_requests_a_second_by_key_else_by_address(tmp_path: Path) -> None:
    now_s = 0.0
    guard = Guard(Keyring(Auth(), {"XDG_STATE_HOME": str(tmp_path)}), RateLimiter(2, 3), lambda: now_s)

    def wait_s(peer: str, permission: Permission = "infer") -> float:
        error = guard.judge({}, [], peer, permission)
        return 0.0 if error is None else error.retry_after_s

    assert guard.is_checked
    assert [wait_s("10.0.0.1:5") for _ in range(4)] == [0, 0, 0, 0.5]
    assert wait_s("10.0.0.1:6") == 0.5, "another connection is the same address"
    assert wait_s("10.0.0.1:6", "open") == 0
    assert wait_s("10.0.0.2:5") == 0
    now_s = 0.5
    assert [wait_s("10.0.0.1:5") for _ in range(2)] == [0, 0.5]


def test_nobody_in_particular_may_do_and_see_everything() -> None:
    assert ANYBODY.may_use("anything")
    assert ANYBODY.name == ""
    assert os.environ.get("XDG_STATE_HOME"), "tests must not read the tester's own keys"
