"""One reading of `model` for us and for the servers behind us.

Go's servers match names of members in any case, and the last that fits counts: of `model` and `Model` in one body they
answer with the second, whatever was checked of the first. So nothing that reads `model` may look past the others.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Annotated, Any, TypeVar, cast

import msgspec

from ollama_proxy.net.bodies.unreadable import UNREADABLE

F = TypeVar("F", bound=msgspec.Struct)

_MODEL = "model"
#: No letter of the word has a partner outside ASCII, as k and s have.
_OTHERS = sorted({"".join(word) for word in itertools.product(*((one, one.upper()) for one in _MODEL))} - {_MODEL})
#: A type without values: a member of it cannot be read, whatever it holds.
_Never = Annotated[str, msgspec.Meta(min_length=1, max_length=0)]
_ESCAPED = b"\\u00"
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT = re.compile(rb"[ \t\r\n]*+\{")


def facts_decoder(facts: type[F]) -> msgspec.json.Decoder[F]:
    """A decoder of `facts` that gives up (`msgspec.ValidationError`) on a body with another spelling of `model`.

    Who reads such bodies then reads them as Go does. It costs a body without them a fifth of a microsecond.
    """
    strict = msgspec.defstruct(
        facts.__name__, [(name, _Never, "") for name in _OTHERS], bases=(facts,), gc=facts.__struct_config__.gc
    )
    return msgspec.json.Decoder(cast(type[F], strict))


def says_once(body: bytes) -> bool:
    """Whether a body has one member `model` at the most, however its letters are escaped; what is no object has none.

    Of two with the very same name most servers take the last, as we do, and some the first. Bodies without that word
    elsewhere are only searched for it.
    """
    if _OBJECT.match(body) is None or (body.count(b'"model"') <= 1 and _ESCAPED not in body):
        return True
    try:
        names = json.loads(body.decode("utf-8", "replace"), object_pairs_hook=_Names)
    except (ValueError, RecursionError):
        return False
    return not isinstance(names, _Names) or names.count(_MODEL) <= 1


def find_sole_model(body: bytes) -> str:
    """The model that a JSON object names, where any server would find the same one; "" for anything else."""
    try:
        members = _members.decode(body)
        if [name for name in members if name.lower() == _MODEL] != [_MODEL] or not says_once(body):
            return ""
        return msgspec.json.decode(members[_MODEL], type=str)
    except UNREADABLE:
        return ""


class _Names(list[str]):
    """The names of an object's members, as they come."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(name for name, _ in pairs)
