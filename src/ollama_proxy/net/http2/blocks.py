"""Header blocks of one connection: put together from frames, decoded in order, checked heads kept for repetitions.

While the header table does not change, equal bytes decode to equal fields; so the head made from a block serves every
request with the same block, and most requests of a connection have the same.
"""

from __future__ import annotations

from .errors import ConnectionFault, ErrorCode, StreamFault
from .head import MalformedHead, RequestHead, check_trailers, read_head
from .hpack import Decoder
from .limits import Http2Limits

_HEADS_KEPT = 256


class HeaderBlocks:
    """Gathers at most one block at a time. `stream_id` is the stream it belongs to, 0 when there is none."""

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._decoder = Decoder()
        self._heads: dict[bytes, RequestHead] = {}
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = self._bad = False
        self.stream_id = 0

    def begin(self, stream_id: int, piece: bytes, *, ended: bool, bad: bool) -> None:
        """A block that goes on in CONTINUATIONs. `bad`: the stream depends on itself, to be said at the end."""
        self.stream_id = stream_id
        self._pieces = [piece]
        self._size = len(piece)
        self._ended, self._bad = ended, bad

    def add(self, piece: bytes) -> None:
        """The next piece. Raises `ConnectionFault` when there are too many."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._limits.block_bytes or len(self._pieces) > self._limits.block_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")

    def finish(self) -> tuple[bytes, bool, bool]:
        """The whole block, whether it ends the stream, whether it was bad."""
        self.stream_id = 0
        block, self._pieces = b"".join(self._pieces), []
        return block, self._ended, self._bad

    def read(self, stream_id: int, block: bytes) -> RequestHead:
        """The head of a request. Raises `ConnectionFault`, or `StreamFault` with the table in step."""
        head = self._heads.get(block)
        if head is not None:
            return head
        decoder = self._decoder
        changes = decoder.changes
        fields = decoder.decode(block)
        if decoder.changes != changes:
            self._heads.clear()
        try:
            head = read_head(fields)
        except MalformedHead as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if decoder.changes == changes and len(self._heads) < _HEADS_KEPT:
            self._heads[block] = head
        return head

    def read_trailers(self, stream_id: int, block: bytes) -> None:
        """Check the fields behind a body; nobody needs them."""
        try:
            check_trailers(self.skip(block))
        except MalformedHead as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None

    def skip(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Decode a block for the table's sake."""
        changes = self._decoder.changes
        fields = self._decoder.decode(block)
        if self._decoder.changes != changes:
            self._heads.clear()
        return fields
