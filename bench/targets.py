"""What we want to hold, as ratios of medians within one run, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from bench.results import Key, Results


@dataclass(frozen=True, slots=True)
class Target:
    """`above` over `below` (or `above` alone, or the two over what direct takes) is at most `limit`."""

    text: str
    above: Key
    limit: float
    below: Key | None = None
    without: Key | None = None  # taken from both first: what is left was added

    def read(self, results: Results) -> float | None:
        """The value that is compared; None where something was not measured."""
        top = results.median(self.above)
        if top is None or self.below is None:
            return top
        bottom = results.median(self.below)
        common = results.median(self.without) if self.without else 0.0
        if bottom is None or common is None or bottom - common <= 0:
            return None
        return (top - common) / (bottom - common)


def _against(text: str, measure: str, metric: str, other: str, limit: float) -> Target:
    return Target(f"{text}, against {other}", ("ours", measure, metric), limit, (other, measure, metric))


def _added(other: str, limit: float) -> Target:
    measure, metric = "latency", "p50_us_1"
    direct = ("direct", measure, metric)
    text = f"latency added at 1 connection, p50, against {other}"
    return Target(text, ("ours", measure, metric), limit, (other, measure, metric), direct)


def _make_targets() -> list[Target]:
    cpu = "cpu_us"
    targets = [
        _against("CPU of a whole answer", "unary", cpu, "nginx", 2.0),
        _against("CPU of a whole answer", "unary", cpu, "vllm-router", 0.8),
        _against("CPU of a whole answer", "unary", cpu, "olla", 0.35),
    ]
    targets.append(
        Target(
            "CPU of an answer from the cache, against a whole one",
            ("ours", "cache-hit", cpu),
            1.3,
            ("ours", "unary", cpu),
        )
    )
    for streams in (100, 400):
        measure = f"streams-{streams}"
        targets += [
            _against(f"CPU of a streamed chunk, {streams} streams", measure, cpu, "nginx", 1.15),
            _against(f"CPU of a streamed chunk, {streams} streams", measure, cpu, "vllm-router", 0.95),
            _against(f"delay of a chunk p99, {streams} streams", measure, "delay_p99_us", "nginx", 1.3),
        ]
    fast = ("ours", "streams-100", cpu)
    for way in ("ollama-openai", "openai-anthropic"):
        measure = f"translated-{way}"
        text = f"CPU of a translated chunk ({way.replace('-', ' client, ')} upstream), against our own fast lane"
        targets.append(Target(text, ("ours", measure, cpu), 2.5, fast))
    targets += [
        _against("CPU of a translated chunk", "translated-openai-anthropic", cpu, "litellm", 0.1),
        _against("CPU of a gRPC Generate", "grpc-unary", cpu, "grpc-go", 0.6),
        _against("CPU of a gRPC HealthCheck", "grpc-health", cpu, "grpc-go", 0.8),
        _against("CPU of a gRPC HealthCheck", "grpc-health", cpu, "grpcio-aio", 1 / 12),
        _against("CPU of a streamed gRPC token", "grpc-stream", cpu, "grpc-go", 1.0),
        _added("nginx", 1.5),
        _added("vllm-router", 1.0),
        Target("memory idle, MB (RSS)", ("ours", "memory", "rss_mb"), 60),
        Target("memory of an open stream at 2,000, KB", ("ours", "streams-2000", "stream_kb"), 12),
        Target("ready after exec, s", ("ours", "start", "seconds"), 1.0),
        Target("decision with 4 backends, us", ("ours", "decision", "us_4"), 12),
        Target("decision with 16 backends, us", ("ours", "decision", "us_16"), 20),
    ]
    return targets


TARGETS = _make_targets()


def judge(target: Target, results: Results) -> tuple[str, str]:
    """The value and "yes", "no" or "not measured"."""
    value = target.read(results)
    if value is None:
        return "-", "not measured"
    return f"{value:.3g}", "yes" if value <= target.limit else "**no**"
