"""What is over is gone for everybody at once; the job deletes it by and by."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from ollama_proxy.vectors.catalogue.attachments import expired_attachments
from ollama_proxy.vectors.catalogue.stores import expired_stores, leave_store

P = ParamSpec("P")
T = TypeVar("T")


def after(
    connection: sqlite3.Connection,
    now_s: int,
    work: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """What `work` finds when all is hidden whose time was over at `now_s`."""
    attached, unused = expired_attachments(connection, now_s), expired_stores(connection, now_s)
    # A full disk is no reason not to read.
    with contextlib.suppress(sqlite3.OperationalError):
        for n in attached:
            connection.execute("UPDATE attached SET stage = 'leaving' WHERE n = ?", (n,))
        for n in unused:
            leave_store(connection, n)
    return work(connection, *args, **kwargs)
