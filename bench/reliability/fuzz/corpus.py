"""What earlier runs found worth keeping: a few short inputs a target, one line of base64 each."""

from __future__ import annotations

import base64
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "corpus"
_MOST_INPUTS, _MOST_BYTES = 64, 1024


def unpack(target: str, folder: Path) -> int:
    """Write the kept inputs into a folder, a file each; how many they are."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = _FOLDER / f"{target}.txt"
    lines = kept.read_text().split() if kept.exists() else []
    for number, line in enumerate(lines):
        (folder / f"kept-{number:03}").write_bytes(base64.b64decode(line))
    return len(lines)


def keep(target: str, folder: Path) -> None:
    """Keep inputs of a folder that was merged, where each covers something that the others do not: as many of each
    length as there is room for, since the long ones go the deepest."""
    inputs = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data))
    fitting = [data for data in inputs if 0 < len(data) <= _MOST_BYTES]
    lines = [base64.b64encode(data).decode() for data in fitting[:: -(-len(fitting) // _MOST_INPUTS) or 1]]
    if not lines:
        return  # a merge that went wrong is no reason to lose what there is
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))
