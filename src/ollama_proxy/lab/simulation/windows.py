"""Windows of time in which a device may be asked for more work than it can do: the rows of the clairvoyant bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LENGTH_FACTOR: Final = 1.25  # from one window length to the next
_STARTS_PER_LENGTH: Final = 8  # windows of one length overlap
_NEGLIGIBLE_S: Final = 1e-6


class Jobs(msgspec.Struct, frozen=True):
    """The requests that one device could do in time, as arrays: each may run from `release_s` to `due_s`."""

    release_s: Floats
    due_s: Floats
    service_s: Floats  # <= due_s - release_s


class Window(msgspec.Struct, frozen=True):
    """`work_s` of each of `jobs` (places in the arrays) must be done within `capacity_s`, in slot seconds."""

    jobs: Integers
    work_s: Floats
    capacity_s: float


def overfull_windows(jobs: Jobs, slots: int) -> Iterator[Window]:
    """The windows that all the jobs together would overfill. The others bind nobody and are left out."""
    if not jobs.release_s.size:
        return
    first_s = float(jobs.release_s.min())
    span_s = float(jobs.due_s.max()) - first_s
    length_s = max(float(jobs.service_s.min()), span_s / 1e5)
    while True:
        yield from _windows_of_length(jobs, slots, first_s, length_s)
        if length_s >= span_s:
            return
        length_s = min(length_s * _LENGTH_FACTOR, span_s)


def _windows_of_length(jobs: Jobs, slots: int, first_s: float, length_s: float) -> Iterator[Window]:
    step_s = length_s / _STARTS_PER_LENGTH
    # A job must be at work in a window that ends after its latest start and begins before its earliest end.
    latest_start_s = jobs.due_s - jobs.service_s
    earliest_end_s = jobs.release_s + jobs.service_s
    low = np.floor((latest_start_s - length_s - first_s) / step_s).astype(np.int64) + 1
    high = np.ceil((earliest_end_s - first_s) / step_s).astype(np.int64) - 1
    count = np.maximum(high - low + 1, 0)
    job = np.repeat(np.arange(count.size), count)
    place = np.arange(job.size) - np.repeat(np.cumsum(count) - count, count) + low[job]
    start_s = first_s + place * step_s
    work_s = np.minimum.reduce(
        [
            jobs.service_s[job],
            np.full(job.size, length_s),
            earliest_end_s[job] - start_s,
            start_s + length_s - latest_start_s[job],
        ]
    )
    keep = work_s > _NEGLIGIBLE_S
    job, place, work_s = job[keep], place[keep], work_s[keep]
    order = np.argsort(place, kind="stable")
    job, place, work_s = job[order], place[order], work_s[order]
    borders = np.flatnonzero(np.diff(place)) + 1
    for members, work in zip(np.split(job, borders), np.split(work_s, borders), strict=True):
        if work.sum() > length_s * slots:
            yield Window(members, work, length_s * slots)
