"""What goes on beside a test, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Beside:
    """Context manager: `run` goes on until it is left, which `_stop` tells it; leaving waits for its end."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=run, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
