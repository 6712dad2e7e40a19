"""A vector database among the backends: probed and listed as they are, and never asked for an answer."""

from __future__ import annotations

import asyncio

from ollama_proxy.app.retrieval.indices import build_index
from ollama_proxy.config.schema import Backend as Entry
from ollama_proxy.domain.call import Call, Need, RawRequest
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport, Relay, RelaySink
from ollama_proxy.vectors.index import IndexProblem

_WHY = "a vector database answers no models' requests"


class VectorBackend:
    """One of type vectordb; it has no models and no abilities, so nothing is decided in its favour."""

    def __init__(self, spec: BackendSpec, entry: Entry) -> None:
        self.spec = spec
        self.capabilities: frozenset[Need] = frozenset()
        self._index = build_index(entry)

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        raise NotImplementedError(_WHY)

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        return _Refused(sink)

    async def probe(self, timeout_s: float) -> ProbeReport:
        try:
            async with asyncio.timeout(timeout_s):
                return ProbeReport({}, version=await self._index.check())
        except TimeoutError:
            raise ProbeError(f"no answer within {timeout_s:g} s") from None
        except IndexProblem as error:
            raise ProbeError(str(error)) from None

    async def close(self) -> None:
        await self._index.close()


class _Refused:
    """What was sent to the wrong address."""

    def __init__(self, sink: RelaySink) -> None:
        self._sink = sink
        self._handle = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._sink.on_error(Failure(FailureKind.UNABLE, _WHY))

    def abort(self) -> None:
        self._handle.cancel()

    def pause(self) -> None:
        """There is nothing to hold back."""

    def resume(self) -> None:
        """Nor to go on with."""


def build_vectordb(spec: BackendSpec, endpoint: object, config: Entry) -> VectorBackend:
    """A server of type vectordb."""
    return VectorBackend(spec, config)
