"""Small files of the kernel: read one, or say why it cannot be read.

They vanish between being listed and being read, are empty, or answer with an error of the driver; none of that is a
fault of ours, so reading gives None and only `explain` looks at the reason.
"""

from __future__ import annotations

import errno
import math
from pathlib import Path

_LIMIT_BYTES = 4096
#: Devices come and go rarely, and their numbers change when a driver is loaded anew: look for them this often.
LIST_EVERY_S = 30.0


def read_text(path: Path) -> str | None:
    """The file's text without blanks at its ends; None when there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_LIMIT_BYTES).decode("utf-8", "replace").strip() or None
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """The finite number in a file; None when there is none."""
    text = read_text(path)
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def explain(path: Path) -> str:
    """Why `read_number` gives None, in a few words; empty when it gives a number."""
    try:
        with path.open("rb", buffering=0) as file:
            text = file.read(_LIMIT_BYTES).decode("utf-8", "replace").strip()
    except PermissionError:
        return "permission denied"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        word = errno.errorcode.get(error.errno or 0, "error")
        return f"the driver answers {word} ({(error.strerror or 'unknown').lower()})"
    if not text:
        return "empty"
    return "" if read_number(path) is not None else f"not a number: {text[:40]!r}"


def list_folder(path: Path) -> tuple[Path, ...]:
    """What is in a folder, by name, numbers in their order; empty when it is not there."""
    try:
        return tuple(sorted(path.iterdir(), key=lambda one: _natural(one.name)))
    except OSError:
        return ()


def _natural(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits) if digits else -1, name


def device_name(path: Path) -> str:
    """The name of the device behind a link (`0000:03:00.0`); empty when there is none."""
    try:
        return (path / "device").resolve(strict=True).name
    except OSError:
        return ""


def is_suspended(device: Path) -> bool:
    """Whether a device sleeps; reading its figures would wake it."""
    return read_text(device / "power" / "runtime_status") in ("suspended", "suspending")


def may_touch(device: Path, active: bool) -> bool:
    """Whether reading costs nothing: it is awake, and somebody works on it or it never sleeps anyway."""
    if is_suspended(device):
        return False
    return active or read_text(device / "power" / "control") != "auto"
