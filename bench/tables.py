"""Which numbers stand in which table."""

from __future__ import annotations

from dataclasses import dataclass

from bench.results import Results


@dataclass(frozen=True, slots=True)
class Column:
    """A metric of a measure. With `ratio_to`, its ratio to another participant stands behind it."""

    title: str
    measure: str
    metric: str
    digits: int = 1
    ratio_to: str = ""
    without: str = ""  # a participant whose median is taken off: what is left was added
    divide_by: float = 1.0
    shows_range: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a sentence below it, and the columns. Participants without any number are left out."""

    title: str
    text: str
    columns: tuple[Column, ...]


def _streams(size: int) -> Table:
    measure = f"streams-{size}"
    return Table(
        f"{size:,} streams",
        "CPU is that of a token passed on while all streams are open; delay is from the upstream's write to the "
        "client's read. Where the core is in bold, the participant could not keep up with the pace.",
        (
            Column("CPU, us a chunk", measure, "cpu_us", 1, ratio_to="nginx", shows_range=True),
            Column("core", measure, "core", 2),
            Column("added to first token p50, us", measure, "ttft_p50_us", 0, without="direct"),
            Column("p99, us", measure, "ttft_p99_us", 0),
            Column("delay p50, us", measure, "delay_p50_us", 0),
            Column("delay p99, us", measure, "delay_p99_us", 0, ratio_to="nginx"),
            Column("KB a stream", measure, "stream_kb", 1),
        ),
    )


TABLES = (
    Table(
        "Whole answers",
        "16 connections, 1 KB up, 0.6 KB down, the same dialect in front and behind. CPU of all processes.",
        (
            Column("CPU, us a request", "unary", "cpu_us", 1, ratio_to="nginx", shows_range=True),
            Column("requests a second", "unary", "per_s", 0),
            Column("core", "unary", "core", 2),
        ),
    ),
    Table(
        "Latency of whole answers",
        "In microseconds, added to what the load program sees without anybody in between; p99 as it is.",
        tuple(
            Column(f"{share}, {connections} conn.", "latency", f"{share}_us_{connections}", 0, without=without)
            for connections in (1, 16, 64)
            for share, without in (("p50", "direct"), ("p99", ""))
        ),
    ),
    Table(
        "Answers from the cache",
        "16 connections, each with a request of 1 KB again and again; CPU in microseconds a request.",
        (
            Column("CPU", "cache-hit", "cpu_us", 1, shows_range=True),
            Column("requests a second", "cache-hit", "per_s", 0),
        ),
    ),
    _streams(100),
    _streams(400),
    _streams(2000),
    Table(
        "Start and memory",
        "From exec to the first answer; memory before the first request, all processes (PSS divides shared pages).",
        (
            Column("start, s", "start", "seconds", 2),
            Column("RSS, MB", "memory", "rss_mb", 1),
            Column("PSS, MB", "memory", "pss_mb", 1),
        ),
    ),
    Table(
        "Translated streams",
        "100 streams of one dialect in front of servers of another. CPU in microseconds a chunk.",
        (
            Column("Ollama client, OpenAI upstream", "translated-ollama-openai", "cpu_us", 1, shows_range=True),
            Column("delay p99, us", "translated-ollama-openai", "delay_p99_us", 0),
            Column("OpenAI client, Anthropic upstream", "translated-openai-anthropic", "cpu_us", 1, shows_range=True),
            Column("delay p99, us", "translated-openai-anthropic", "delay_p99_us", 0),
            Column("core", "translated-openai-anthropic", "core", 2),
        ),
    ),
    Table(
        "gRPC",
        "HealthCheck is the server alone; Generate and GenerateStream go through to an Ollama upstream.",
        (
            Column("HealthCheck, us a call (h2load)", "grpc-health", "cpu_us", 1, ratio_to="grpc-go", shows_range=True),
            Column("calls a second", "grpc-health", "per_s", 0),
            Column("the same by ghz, us", "grpc-health", "ghz_cpu_us", 1),
            Column("Generate, us a call", "grpc-unary", "cpu_us", 1, ratio_to="grpc-go", shows_range=True),
            Column("p99, us", "grpc-unary", "p99_us", 0),
            Column("GenerateStream, us a token", "grpc-stream", "cpu_us", 1, ratio_to="grpc-go", shows_range=True),
        ),
    ),
    Table(
        "The decision alone",
        "Median microseconds in process; before each decision one request is sent and one ends, or nothing changes.",
        tuple(
            Column(f"{size:,} backends{', unchanged' if prefix else ''}", "decision", f"{prefix}us_{size}", 1)
            for prefix in ("", "unchanged_")
            for size in (1, 4, 16, 64, 1000)
        ),
    ),
)


def render_cell(column: Column, participant: str, results: Results) -> str:
    """The number, its range and its ratio; "-" where nothing was measured."""
    key = (participant, column.measure, column.metric)
    found = results.summary(key)
    if found is None:
        return "-"
    value: float | None = found.median
    if column.without:
        value = results.difference(key, (column.without, column.measure, column.metric))
    nobody = participant == "direct" and (column.without or column.metric in ("cpu_us", "core", "stream_kb"))
    if value is None or nobody:
        return "-"
    text = f"{value / column.divide_by:,.{column.digits}f}"
    if column.metric == "core" and results.is_saturated(participant, column.measure):
        text = f"**{text}**"
    if column.shows_range and found.rounds > 1:
        text += f" ({found.low:,.{column.digits}f}-{found.high:,.{column.digits}f})"
    ratio = results.ratio(key, (column.ratio_to, column.measure, column.metric)) if column.ratio_to else None
    if ratio is not None and participant != column.ratio_to:
        text += f" = {ratio:.2f} x"
    return text


def render_table(table: Table, results: Results) -> list[str]:
    """Lines of Markdown; none where nobody has a number."""
    rows = []
    for participant in results.versions:
        cells = [render_cell(column, participant, results) for column in table.columns]
        if any(cell != "-" for cell in cells):
            rows.append(f"| {participant} | {' | '.join(cells)} |")
    if not rows:
        return []
    titles = " | ".join(
        column.title + (f" (x {column.ratio_to})" if column.ratio_to else "") for column in table.columns
    )
    rule = "|---" * (len(table.columns) + 1) + "|"
    return [f"## {table.title}", "", table.text, "", f"| | {titles} |", rule, *rows, ""]
