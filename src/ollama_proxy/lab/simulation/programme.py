"""The linear programme behind the clairvoyant bound, as arrays for HiGHS.

Columns: for each request and each device that can do it in time, the part of it that is done there; for each request,
the part that is late.
"""

from __future__ import annotations

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

_ROUNDING = 1e-9


class _QuietHighs(highspy.Highs):
    """The solver, which would print its banner on standard output while it is made."""

    def enableCallbacks(self) -> None:
        self.silent()
        super().enableCallbacks()  # type: ignore[no-untyped-call]  # of the package


class InfeasibleError(Exception):
    """No schedule meets the targets with so few late requests."""


class Programme:
    """Minimise joules so that every request is done. `joules` and `on_time` are of shape (requests, devices)."""

    def __init__(self, joules: Floats, on_time: Booleans) -> None:
        requests = len(joules)
        places = np.argwhere(on_time)
        self._request = np.concatenate([places[:, 0], np.arange(requests)])
        self._costs = np.concatenate([joules[on_time], joules.min(axis=1)])
        self._column = np.full(on_time.shape, -1, dtype=np.int64)
        self._column[on_time] = np.arange(len(places))
        self._requests = requests
        self._rows: list[tuple[Integers, Floats, float, float]] = []
        by_request = np.argsort(self._request, kind="stable")
        for columns in np.split(by_request, np.cumsum(np.bincount(self._request))[:-1]):
            self._rows.append((columns, np.ones(columns.size), 1.0, 1.0))

    def limit_late(self, requests: Integers, most: float) -> None:
        """At most `most` of these requests are late, together."""
        columns = len(self._costs) - self._requests + requests
        self._rows.append((columns, np.ones(columns.size), -highspy.kHighsInf, most))

    def limit_work(self, requests: Integers, devices: Integers, work: Floats, capacity: float) -> None:
        """`work`, that of each request on the device in the same place, is at most `capacity` together."""
        self._rows.append((self._column[requests, devices], work, -highspy.kHighsInf, capacity))

    def solve(self) -> tuple[Floats, Floats]:
        """Joules and late part of each request. Raises `InfeasibleError`."""
        solver = _QuietHighs()  # type: ignore[no-untyped-call]  # of the package
        solver.setOptionValue("threads", 1)
        solver.passModel(self._model())
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise InfeasibleError(f"the solver says: {solver.modelStatusToString(solver.getModelStatus())}")
        parts = np.array(solver.getSolution().col_value)
        joules = np.zeros(self._requests)
        np.add.at(joules, self._request, parts * self._costs)
        late = np.clip(parts[-self._requests :], 0.0, 1.0)
        return joules, np.where(late < _ROUNDING, 0.0, late)

    def _model(self) -> highspy.HighsLp:
        model = highspy.HighsLp()
        model.num_col_ = len(self._costs)
        model.num_row_ = len(self._rows)
        model.col_cost_ = self._costs
        model.col_lower_ = np.zeros(len(self._costs))
        model.col_upper_ = np.ones(len(self._costs))
        model.row_lower_ = np.array([row[2] for row in self._rows])
        model.row_upper_ = np.array([row[3] for row in self._rows])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(row[0].size for row in self._rows)])
        model.a_matrix_.index_ = np.concatenate([row[0] for row in self._rows])
        model.a_matrix_.value_ = np.concatenate([row[1] for row in self._rows])
        return model
