"""Nobody in between: what the mock and the load program cost by themselves."""

from __future__ import annotations

from pathlib import Path

from bench.participant import Launch, Plan


class Direct:
    """The load goes straight to the first upstream, which the bench takes for no command to start."""

    name = "direct"
    measures = frozenset({"unary", "latency", "streams-100", "streams-400", "streams-2000"})

    def install(self, tools: Path) -> str:
        """Nothing to do."""
        return "-"

    def launch(self, plan: Plan) -> Launch:
        """No command."""
        return Launch([])
