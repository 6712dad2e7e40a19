"""All that is about vectors, put together: the desk, the model of our own, the port for other rooms."""

from __future__ import annotations

from ollama_proxy.app.embeds.builtin import BuiltinVectors
from ollama_proxy.app.embeds.desk import EmbedDesk
from ollama_proxy.app.embeds.embedder import DeskEmbedder
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.upstreams.roster import Roster
from ollama_proxy.config.schema import Config
from ollama_proxy.observability.metrics import Metrics


class EmbedRoom:
    """Built once; a configuration is adopted as often as it changes."""

    def __init__(self, config: Config, dispatcher: Dispatcher, roster: Roster, metrics: Metrics) -> None:
        self._builtin = BuiltinVectors(config.embedded.threads, roster.join, roster.leave)
        self._config = config.embeddings
        self.desk = EmbedDesk(dispatcher, self._builtin, roster.prober.look_anew)
        self.embedder = DeskEmbedder(
            self.desk, dispatcher.view, dispatcher.make_request_id, lambda: self._config.default_model
        )
        metrics.add(self.desk.counts)
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self._config = config.embeddings
        self._builtin.enabled = self._config.builtin == "auto"
        self.desk.splits = self._config.split
        self.desk.remembers = self._config.cache
        self.desk.store.most_bytes = self._config.cache_mb * 1e6
        self.desk.gatherer.window_s = self._config.gather_ms / 1000

    async def stop(self) -> None:
        """End what was started."""
        await self._builtin.stop()
