"""H: the truth of the numbers."""

from __future__ import annotations

from bench.reliability.row import Row
from bench.reliability.tested import Tests

ROWS = (
    Row(
        "H1",
        "energy ledger: sum over requests + idle against the meter's integral",
        "<= 0.1 % on simulated meters; never negative",
        "Hypothesis draws loads and meters; what is given to requests and to idling has to add up to the meter",
        Tests(
            (
                "tests/properties/test_attribution.py",
                "tests/properties/test_meters.py",
                "tests/unit/energy/test_attribution.py",
                "tests/unit/energy/test_ledger.py",
                "tests/unit/energy/test_apportioning.py",
                "tests/e2e/test_energy.py",
            ),
            examples=2_000,
            quick_examples=100,
        ).run,
        "real meters: this machine has none",
    ),
    Row(
        "H3",
        "10,000 recorded decisions replayed",
        "100 % the same; each reason true",
        "Hypothesis draws fleets and requests; the record of each decision is decided again and compared byte by byte",
        Tests(
            ("tests/properties/test_record.py", "tests/unit/cli/test_replay.py"), examples=10_000, quick_examples=200
        ).run,
    ),
)
