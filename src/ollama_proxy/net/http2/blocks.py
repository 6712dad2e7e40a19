"""Header blocks of one connection: put together from frames, decoded in order, checked heads kept for repetitions.

While the header table does not change, equal bytes decode to equal fields; so the head made from a block serves every
request with the same block, and most requests of a connection have the same.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import ConnectionFault, ErrorCode, StreamFault
from .head import MalformedHead, RequestHead, check_trailers, read_head
from .hpack import Decoder
from .limits import Http2Limits

_HEADS_KEPT = 256
_HEADS_KEPT_BYTES = 256 * 1024
#: A list larger than is served is read so far, that its stream alone fails and the table stays in step.
_READ_LISTS = 8
#: What each KiB above the limit costs: few bytes of a block can stand for many of a list.
_KIBIBYTE = 1024


class HeaderBlocks:
    """Gathers at most one block at a time. `stream_id` is the stream it belongs to, 0 when there is none.

    `spend` takes the client's credit for lists that are too large.
    """

    __slots__ = (
        "_bad",
        "_decoder",
        "_ended",
        "_heads_bytes",
        "_limits",
        "_pieces",
        "_size",
        "_spend",
        "heads",
        "stream_id",
    )

    def __init__(self, limits: Http2Limits, spend: Callable[[int], None]) -> None:
        self._limits = limits
        self._spend = spend
        self._decoder = Decoder(most_list_bytes=_READ_LISTS * limits.list_bytes)
        #: By the bytes of their blocks.
        self.heads: dict[bytes, RequestHead] = {}
        self._heads_bytes = 0
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
        head = self.heads.get(block)
        if head is not None:
            return head
        changes = self._decoder.changes
        fields = self.skip(block)
        try:
            head = read_head(fields)
        except MalformedHead as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if self._decoder.changes == changes:
            self._keep(block, head)
        return head

    def _keep(self, block: bytes, head: RequestHead) -> None:
        size = self._heads_bytes + len(block) + head.list_bytes
        if size <= _HEADS_KEPT_BYTES and len(self.heads) < _HEADS_KEPT:
            self.heads[block] = head
            self._heads_bytes = size

    def read_trailers(self, stream_id: int, block: bytes) -> None:
        """Check the fields behind a body; nobody needs them."""
        try:
            check_trailers(self.skip(block))
        except MalformedHead as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None

    def skip(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Decode a block for the table's sake."""
        decoder = self._decoder
        changes = decoder.changes
        fields = decoder.decode(block)
        if decoder.changes != changes:
            self.heads.clear()
            self._heads_bytes = 0
        above = decoder.list_bytes - self._limits.list_bytes
        if above > 0:
            self._spend(1 + above // _KIBIBYTE)
        return fields
