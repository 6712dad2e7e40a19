"""Answers that take an await: a task of their own, whose failure is an answer, too, and never silence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)


def answer_later(
    exchange: Exchange,
    work: Coroutine[Any, Any, None],
    name: str,
    refuse: Callable[[Exchange, ProxyError], None],
) -> None:
    """Run `work`, which answers the exchange; `refuse` does when it fails before it has begun to."""
    spawn(_run(exchange, work, name, refuse), name)


async def _run(
    exchange: Exchange,
    work: Coroutine[Any, Any, None],
    name: str,
    refuse: Callable[[Exchange, ProxyError], None],
) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  # a task root: the client gets an answer, the log the reason
        _log.exception("%s failed", name)
        if exchange.started:
            exchange.abort()
        elif not exchange.gone:
            refuse(exchange, ProxyError(ErrorKind.INTERNAL, "internal error"))
