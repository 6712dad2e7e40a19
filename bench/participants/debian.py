"""Programs that come from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess

from bench.participant import Unavailable

#: Where Debian puts daemons; not on everybody's PATH.
_FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_LIMIT_S = 300


def find_program(program: str) -> str | None:
    """Its path, if it is there."""
    return shutil.which(program, path=_FOLDERS)


def install_program(program: str, package: str) -> str:
    """The path of a program, after installing its package where that is missing and we may. Raises Unavailable."""
    if found := find_program(program):
        return found
    if os.geteuid() != 0 or not find_program("apt-get"):
        raise Unavailable(f"{program} is not installed; on Debian or Ubuntu: apt-get install {package}")
    # Run level 1 keeps the package from starting its service.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-q", *words], env=env, capture_output=True, timeout=_LIMIT_S, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"apt-get could not install {package}: {error}") from error
    if found := find_program(program):
        return found
    raise Unavailable(f"the package {package} brought no {program}")


def read_version(command: list[str], env: dict[str, str] | None = None) -> str:
    """The first line a program says about itself; nginx says it on standard error."""
    whole = {**os.environ, **(env or {})}
    result = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=20, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
