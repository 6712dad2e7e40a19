"""`ollama-proxy keys`: who may use a proxy, without a restart: a proxy that runs takes up changes within a second."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from ollama_proxy.config.key_file import StoredKey
    from ollama_proxy.config.schema import Config

app = typer.Typer(
    help="Keys that let clients in: add, list, revoke.", no_args_is_help=True, pretty_exceptions_enable=False
)
ConfigFlag = Annotated[str | None, typer.Option("--config", help="Configuration file.", metavar="FILE")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is; shown in logs and in the ledger.")],
    permissions: Annotated[
        str, typer.Option(help="infer, models, admin; several with commas between.", metavar="LIST")
    ] = "infer",
    models: Annotated[
        str | None, typer.Option(help="Patterns of models it may use; else all.", metavar="LIST", show_default=False)
    ] = None,
    backends: Annotated[
        str | None, typer.Option(help="Ids of backends it may use; else all.", metavar="LIST", show_default=False)
    ] = None,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="0: no limit.")] = 0,
    tokens_per_minute: Annotated[int, typer.Option(min=0, help="Of prompts and answers; 0: no limit.")] = 0,
    wh_per_hour: Annotated[float, typer.Option(min=0, help="Energy; 0: no limit.")] = 0,
    wh_per_day: Annotated[float, typer.Option(min=0, help="Energy; 0: no limit.")] = 0,
    concurrent: Annotated[int, typer.Option(min=0, help="Requests at once; 0: no limit.")] = 0,
    continuation: Annotated[
        str, typer.Option(help="never: a stream that breaks off is not gone on with.", metavar="auto|never")
    ] = "auto",
    expires: Annotated[str, typer.Option(help="A day such as 2027-01-31, in UTC; else never.", metavar="DAY")] = "",
    same_owner: Annotated[
        bool,
        typer.Option("--same-owner", help="Whoever had the name before gets it again, with all that is kept by it."),
    ] = False,
    config: ConfigFlag = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    from ollama_proxy.config.key_file import hash_key, make_key

    key = make_key()
    grant = {
        "permissions": _split(permissions),
        "models": _split_limit("models", models),
        "backends": _split_limit("backends", backends),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "wh_per_hour": wh_per_hour,
        "wh_per_day": wh_per_day,
        "concurrent": concurrent,
        "continuation": continuation,
        "expires": expires,
    }
    settings = _read_config(config)
    stored = _make_entry(name, hash_key(key.encode()), grant, settings)
    path = _path(settings)
    with _acting("keys add", name, settings), _changing(path) as keys:
        taken = any(one.name == name and not one.revoked_unix_s for one in keys)
        if taken or name in settings.server.auth.api_keys:
            _fail(f"there is a key called {name} already; revoke it first, or take another name")
        if not same_owner and any(one.name == name for one in keys):
            _fail(
                f"there was a key called {name}, whose files, stores and answers are kept by that name: take another "
                "name, or say --same-owner if this is for whoever had it"
            )
        keys.append(stored)
    typer.echo(
        f"Key {name} may: {', '.join(stored.permissions)}. It is shown this once; {path} keeps its hash.", err=True
    )
    typer.echo(key)
    if not settings.server.auth.enabled:
        typer.echo("No key is asked for yet: set server.auth.enabled to true in the configuration.", err=True)


@app.command("list")
def list_(
    config: ConfigFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show every key by its name, with what it may do; never the key."""
    settings = _read_config(config)
    rows = [_describe(one) for one in _load(_path(settings))]
    rows += [_describe_entry(name, entry) for name, entry in settings.server.auth.api_keys.items()]
    for row in rows:
        typer.echo(json.dumps(row) if as_json else _as_line(row))
    if not rows and not as_json:
        typer.echo("No keys. `ollama-proxy keys add NAME` makes one.", err=True)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The name that it was added under.")], config: ConfigFlag = None
) -> None:
    """End a key. Requests that run end by themselves; new ones are refused within a second."""
    import msgspec

    settings = _read_config(config)
    with _acting("keys revoke", name, settings), _changing(_path(settings)) as keys:
        for place, one in enumerate(keys):
            if one.name == name and not one.revoked_unix_s:
                keys[place] = msgspec.structs.replace(one, revoked_unix_s=round(time.time(), 3))
                break
        else:
            if name in settings.server.auth.api_keys:
                _fail(f"{name} is a key of the configuration: take server.auth.api_keys.{name} out of the file")
            _fail(f"there is no key called {name}; `ollama-proxy keys list` shows all")
    typer.echo(f"Key {name} is revoked.")


@app.command("hash")
def hash_() -> None:
    """Print the hash of a key that is read from standard input, for `key_hash` in the configuration."""
    from ollama_proxy.config.key_checks import LEAST_CHARS
    from ollama_proxy.config.key_file import hash_key

    key = typer.get_binary_stream("stdin").read().strip()
    if len(key) < LEAST_CHARS or not key.isascii() or b" " in key:
        _fail(f"a key has at least {LEAST_CHARS} characters, ASCII without blanks; `ollama-proxy keys add` makes one")
    typer.echo(hash_key(key))


# -- the file ------------------------------------------------------------------------


def _path(config: Config) -> Path:
    from ollama_proxy.config.key_file import keys_path

    return keys_path(config.server.auth.keys_file, os.environ)


def _load(path: Path) -> tuple[StoredKey, ...]:
    from ollama_proxy.config.key_file import KeyFileError, load_keys

    try:
        return load_keys(path)
    except KeyFileError as error:
        _fail(str(error))


@contextmanager
def _changing(path: Path) -> Iterator[list[StoredKey]]:
    from ollama_proxy.config.key_file import KeyFileError, changing

    try:
        with changing(path) as keys:
            yield keys
    except KeyFileError as error:
        _fail(str(error))


def _read_config(flag: str | None) -> Config:
    """The configuration as it is written: a public host without keys is no reason not to make one."""
    from ollama_proxy.config.document import read_text
    from ollama_proxy.config.load import find_config, parse_config
    from ollama_proxy.config.problems import ConfigError

    path = find_config(flag, os.environ, Path.cwd())
    try:
        return parse_config(read_text(path), str(path))[0]
    except ConfigError as error:
        _fail(str(error))


def _make_entry(name: str, key_hash: str, grant: dict[str, Any], config: Config) -> StoredKey:
    import re

    import msgspec

    from ollama_proxy.config.key_checks import check_grant
    from ollama_proxy.config.key_file import StoredKey

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", name):
        _fail("a name has letters, digits, dot, dash, underscore and @, 64 at most")
    document = {"name": name, "key_hash": key_hash, "created_unix_s": round(time.time(), 3), **grant}
    try:
        stored = msgspec.convert(document, StoredKey)
    except msgspec.ValidationError as error:
        _fail(str(error).replace("`", "").replace(" - at $.", ": "))
    ids = frozenset(one.id for one in config.backends) | {"embedded"}
    for problem in check_grant(stored, "--", ids):
        _fail(f"{problem.where.removeprefix('--.')} {problem.message}")
    return stored


@contextmanager
def _acting(action: str, target: str, config: Config) -> Iterator[None]:
    """Write an act and how it ended into the audit log."""
    from ollama_proxy.app.access.audit import AuditLog, audit_path, name_user

    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        audit = AuditLog(audit_path(config.server.auth.audit_file, os.environ))
        audit.write(name_user(), "command line", action, target, outcome)


# -- for people ------------------------------------------------------------------------


def _describe(key: StoredKey) -> dict[str, Any]:
    found = _describe_grant(key.name, key)
    found["created"] = _day(key.created_unix_s)
    if key.revoked_unix_s:
        found["revoked"] = _day(key.revoked_unix_s)
    return found


def _describe_entry(name: str, entry: Any) -> dict[str, Any]:
    found = _describe_grant(name, entry)
    found["from"] = "configuration"
    if not entry.enabled:
        found["enabled"] = False
    return found


def _describe_grant(name: str, grant: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "permissions": list(grant.permissions)}
    read: Callable[[str], Any] = lambda field: getattr(grant, field)  # noqa: E731  # one word for a look-up
    for field in ("models", "backends"):
        if read(field):
            found[field] = list(read(field))
    for field in ("requests_per_minute", "tokens_per_minute", "wh_per_hour", "wh_per_day", "concurrent", "expires"):
        if read(field):
            found[field] = read(field)
    if read("continuation") != "auto":
        found["continuation"] = read("continuation")
    return found


def _as_line(row: dict[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, list) else value}"
        for name, value in row.items()
        if name not in ("name", "permissions")
    ]
    return f"{row['name']}  {', '.join(row['permissions'])}" + (f"  ({'; '.join(parts)})" if parts else "")


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _split_limit(flag: str, text: str | None) -> list[str]:
    """The words of a limit; an empty one, of a variable that is not set perhaps, must not become none."""
    words = [] if text is None else _split(text)
    if text is not None and not words:
        _fail(f"--{flag} is empty; name {flag}, or leave it out and the key may use all")
    return words


def _fail(message: str) -> NoReturn:
    typer.echo(f"ollama-proxy keys: {message}", err=True)
    raise typer.Exit(2)
