"""One line of the ledger."""

from __future__ import annotations

import msgspec


class LedgerRow(msgspec.Struct, frozen=True, gc=False):
    """What one attempt of a request cost. A request that went on elsewhere has a row for each device it used.

    `output_tokens` are those that this attempt has written; of a part that broke off the pieces that were seen, where
    they were. `prompt_tokens` are those of the request's own prompt, without what an earlier part had written and this
    attempt had to read. So both add up over the rows of a request.

    Times in seconds (`unix_s` is when it ended), energy in joules; None for what is not known. `key` is the caller's
    name, never the secret. `static_j` is what the static rule would have spent on the same work: 0 for an attempt that
    it would not have made, None where nobody can say.
    """

    request_id: str
    unix_s: float
    model: str
    backend: str
    key: str = ""
    way_in: str = ""
    outcome: str = "ok"
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    marginal_j: float | None = None
    full_j: float | None = None
    plus_minus_j: float | None = None
    kind: str = "unknown"
    seconds: float = 0.0
    static_j: float | None = None
