"""The linear programme behind the clairvoyant bound, as arrays for HiGHS.

Columns: for each request and each device that can do it in time, the part of it that is done there; for each request,
the part that is late; the seconds of states that devices share.
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
        self._parts = len(self._costs)
        #: Joules of what requests share, once it is solved.
        self.shared_joules = 0.0
        self._rows: list[tuple[Integers, Floats, float, float]] = []
        by_request = np.argsort(self._request, kind="stable")
        for columns in np.split(by_request, np.cumsum(np.bincount(self._request))[:-1]):
            self._rows.append((columns, np.ones(columns.size), 1.0, 1.0))

    def limit_late(self, requests: Integers, most: float) -> None:
        """At most `most` of these requests are late, together."""
        columns = self._parts - self._requests + requests
        self._rows.append((columns, np.ones(columns.size), -highspy.kHighsInf, most))

    def limit_work(self, requests: Integers, devices: Integers, work: Floats, capacity: float) -> None:
        """`work`, that of each request on the device in the same place, is at most `capacity` together."""
        self._rows.append((self._column[requests, devices], work, -highspy.kHighsInf, capacity))

    def add_modes(self, costs: Floats) -> Integers:
        """Seconds of states that devices share, at `costs` joules each; their columns."""
        columns = np.arange(len(self._costs), len(self._costs) + costs.size)
        self._costs = np.concatenate([self._costs, costs])
        return columns

    def limit_modes(self, modes: Integers, most_s: float) -> None:
        """At most so many seconds of these together."""
        self._rows.append((modes, np.ones(modes.size), -highspy.kHighsInf, most_s))

    def require_modes(self, requests: Integers, device: int, work: Floats, modes: Integers, speeds: Floats) -> None:
        """The work of these requests on a device is done in these modes, each at its speed."""
        columns = np.concatenate([self._column[requests, device], modes])
        self._rows.append((columns, np.concatenate([work, -speeds]), -highspy.kHighsInf, 0.0))

    def solve(self) -> tuple[Floats, Floats]:
        """Joules and late part of each request. Raises `InfeasibleError`."""
        solver = _QuietHighs()  # type: ignore[no-untyped-call]  # of the package
        solver.setOptionValue("threads", 1)
        solver.passModel(self._model())
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise InfeasibleError(f"the solver says: {solver.modelStatusToString(solver.getModelStatus())}")
        values = np.array(solver.getSolution().col_value)
        parts, self.shared_joules = values[: self._parts], float(values[self._parts :] @ self._costs[self._parts :])
        joules = np.zeros(self._requests)
        np.add.at(joules, self._request, parts * self._costs[: self._parts])
        late = np.clip(parts[-self._requests :], 0.0, 1.0)
        return joules, np.where(late < _ROUNDING, 0.0, late)

    def _model(self) -> highspy.HighsLp:
        model = highspy.HighsLp()
        model.num_col_ = len(self._costs)
        model.num_row_ = len(self._rows)
        model.col_cost_ = self._costs
        model.col_lower_ = np.zeros(len(self._costs))
        shared = np.full(len(self._costs) - self._parts, highspy.kHighsInf)
        model.col_upper_ = np.concatenate([np.ones(self._parts), shared])
        model.row_lower_ = np.array([row[2] for row in self._rows])
        model.row_upper_ = np.array([row[3] for row in self._rows])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(row[0].size for row in self._rows)])
        model.a_matrix_.index_ = np.concatenate([row[0] for row in self._rows])
        model.a_matrix_.value_ = np.concatenate([row[1] for row in self._rows])
        return model
