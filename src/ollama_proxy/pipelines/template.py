"""Templates: text with places, `{{input.name}}` or `{{stage}}`, filled once.

Nothing is ever evaluated, and what was filled in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"(?:input\.)?[A-Za-z][A-Za-z0-9_-]{0,63}")


def list_places(template: str) -> list[str]:
    """The names in a template, as they stand there without blanks. Raises `ValueError` for a place that has no name."""
    found = []
    for place in _PLACE.finditer(template):
        name = place.group(1).strip()
        if not _NAME.fullmatch(name):
            raise ValueError(f"{place.group()[:40]!r} is no place; write {{{{input.name}}}} or {{{{stage}}}}")
        found.append(name)
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text with every place filled. Raises `KeyError` for a name without a value."""
    return _PLACE.sub(lambda place: values[place.group(1).strip()], template)
