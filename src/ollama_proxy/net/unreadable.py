"""What reading somebody else's JSON can raise.

msgspec's own error is not all of it: bytes that are no UTF-8 and a document too deep to read have errors of Python's.
Whoever decodes what came over the wire catches these, or one bad answer takes more down than itself.
"""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
