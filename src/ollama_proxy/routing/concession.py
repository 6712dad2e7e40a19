"""What a request may give up when nobody can take it as it is: what it merely wants, then the very model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.names import canonical_model


def give_way(call: Call, request: RoutingRequest, substitutes: Sequence[str]) -> Iterator[tuple[RoutingRequest, str]]:
    """Lesser requests in the order in which to try them, each with a clause that tells what was given up.

    Vectors of another model mean something else, so an embedding never takes a substitute.
    """
    lacking = f"nobody can do all of: {', '.join(sorted(want.value for want in call.wants))}" if call.wants else ""
    if call.wants:
        yield msgspec.structs.replace(request, needs=call.needs), lacking
    if call.operation is Operation.EMBED:
        return
    for name in substitutes:
        other = msgspec.structs.replace(request, model=canonical_model(name), requested_model=name, held={})
        remark = f"{name} substitutes for {request.requested_model[:100]}"
        yield other, remark
        if call.wants:
            yield msgspec.structs.replace(other, needs=call.needs), f"{remark}; {lacking}"
