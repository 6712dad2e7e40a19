"""Whose things are there for whom, and pages of lists."""

from __future__ import annotations

from typing import Any

from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.library import Page


def owned(caller: Caller, column: str = "owner") -> tuple[str, list[Any]]:
    """A condition for what is there for a caller: the key's own, or everything for who may run the proxy."""
    if "admin" in caller.permissions:
        return "1", []
    return f"{column} = ?", [caller.name]


def page_of(page: Page, table: str, ids: str = "id") -> tuple[str, list[Any]]:
    """Behind the conditions of a query of a table with the order `n`: what comes behind and before two ids, in order,
    and one row more than was asked for, which tells that there are more."""
    behind, before = (">", "<") if page.ascending else ("<", ">")
    text, values = "", []
    for sign, ident in ((behind, page.after), (before, page.before)):
        if ident:
            text += f" AND {table}.n {sign} (SELECT other.n FROM {table} AS other WHERE other.{ids} = ?)"
            values.append(ident)
    order = "ASC" if page.ascending else "DESC"
    return f"{text} ORDER BY {table}.n {order} LIMIT {page.limit + 1}", values
