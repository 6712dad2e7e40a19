"""The bounds of a probe: how long it may take, and what becomes of what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.domain.ports import ProbeError
from ollama_proxy.net.http1.fetch import FetchError

T = TypeVar("T")


async def ask_within(timeout_s: float, asking: Awaitable[T]) -> T:
    """What `asking` finds out. Raises `ProbeError`, hard when nothing is listening there."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asking
    except TimeoutError:
        raise ProbeError(f"timeout after {timeout_s:g} s") from None
    except FetchError as error:
        hard = error.failure.kind in (FailureKind.REFUSED, FailureKind.UNREACHABLE)
        raise ProbeError(error.failure.message, hard=hard) from None
