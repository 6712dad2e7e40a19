"""`python -m bench.vectors`: the tables of docs/vectors.md."""

from __future__ import annotations

import argparse

from bench.vectors.quality import measure_quality
from bench.vectors.speed import HEAD, measure
from bench.vectors.stores import STORES


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(prog="bin/bench-vectors", description="Vector stores, measured")
    parser.add_argument("--count", type=int, default=100_000, help="vectors")
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--only", choices=("speed", "quality"), default="", help="one of the two tables")
    parser.add_argument("--stores", default="", help="those with one of these words in their names, joined by comma")
    asked = parser.parse_args()
    words = asked.stores.split(",")
    names = [name for name in STORES if any(word in name for word in words)]
    if asked.only != "quality":
        print(HEAD)
        _, left_out = measure(names, asked.count, asked.dimensions, asked.searches)
        print("\n".join(f"- left out: {one}" for one in left_out))
    if asked.only != "speed":
        print(measure_quality())


if __name__ == "__main__":
    main()
