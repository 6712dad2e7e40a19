"""What of a configuration is no more than values: for the dispatcher, for origins, for memory and descriptors.

A reload takes them up by the same way as the start.
"""

from __future__ import annotations

from ollama_proxy.app.process.pressure import Pressure
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.requests.overdue import make_timeouts
from ollama_proxy.config.checks import is_loopback
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.fleet.admission import Bounds
from ollama_proxy.fleet.preemption import Preemption
from ollama_proxy.fleet.prefixes import PrefixBook
from ollama_proxy.lifecycle.hedge_budget import HedgeBudget
from ollama_proxy.lifecycle.life import MAX_ATTEMPTS
from ollama_proxy.net.origins import Origins


def set_dispatcher(dispatcher: Dispatcher, config: Config) -> None:
    """Have it see to requests as `config` says. What it knows of held prompts stays while it is to know it."""
    routing = config.routing
    dispatcher.fleet_state.adapts = routing.adaptive_slots
    dispatcher.substitutes = {canonical_model(name): others for name, others in config.models.substitutes.items()}
    dispatcher.admission.bounds = Bounds(
        routing.max_waiting, routing.max_waiting_mb * 1e6, routing.max_wait_seconds or float("inf")
    )
    dispatcher.hedges = HedgeBudget() if routing.hedge == "critical" else None
    if routing.preemption == "off":
        dispatcher.preemption = None
    elif dispatcher.preemption is None:
        dispatcher.preemption = Preemption(dispatcher.fleet_state)
    dispatcher.max_attempts = 1 if routing.fallback_strategy == "none" else MAX_ATTEMPTS
    dispatcher.continues = routing.continuation == "auto"
    dispatcher.timeouts = make_timeouts(config.timeouts)
    if not routing.prefix_affinity:
        dispatcher.prefixes = None
    elif dispatcher.prefixes is None:
        dispatcher.prefixes = PrefixBook()


def make_pressure(config: Config) -> Pressure:
    """What looks how much memory and how many descriptors are left."""
    process = config.process
    return Pressure(process.memory_limit_mb, process.shed_low_at, process.shed_all_at)


def make_origins(config: Config) -> Origins:
    """Who may ask from a browser."""
    server = config.server
    return Origins(server.allowed_origins, server.allowed_hosts, local_only=is_loopback(server.host))
