"""What reading somebody else's JSON can raise.

msgspec's own error is not all of it: bytes that are no UTF-8 and a document too deep to read have errors of Python's.
Whoever decodes what came over the wire catches these, or one bad answer takes more down than itself.
"""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def tell_unreadable(error: Exception) -> str:
    """What is wrong with the text, for its sender: Python's own words would only puzzle."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start} of a text"
    return str(error)
