"""Windows of time in which a device, or the memory that devices share, may be asked for more work than it can do.

They are the rows of the clairvoyant bound.
"""

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
    """What could be done in time, as arrays: each may run from `release_s` to `due_s`, and uses `load` while it does.

    A job that `may_pause` can work before a window and behind it and stand still inside.
    """

    release_s: Floats
    due_s: Floats
    service_s: Floats  # <= due_s - release_s
    load: Floats  # slots, or gigabytes a second
    may_pause: bool = False


class Window(msgspec.Struct, frozen=True):
    """`work` of each of `jobs` (places in the arrays) must be done within `capacity`: slot seconds, or gigabytes."""

    jobs: Integers
    work: Floats
    capacity: float


def overfull_windows(jobs: Jobs, capacity: float) -> Iterator[Window]:
    """The windows that all the jobs together would overfill; there is `capacity` a second. The others bind nobody."""
    if not jobs.release_s.size:
        return
    first_s = float(jobs.release_s.min())
    span_s = float(jobs.due_s.max()) - first_s
    length_s = max(float(jobs.service_s.min()), span_s / 1e5)
    while True:
        yield from _windows_of_length(jobs, capacity, first_s, length_s)
        if length_s >= span_s:
            return
        length_s = min(length_s * _LENGTH_FACTOR, span_s)


def _windows_of_length(jobs: Jobs, capacity: float, first_s: float, length_s: float) -> Iterator[Window]:
    step_s = length_s / _STARTS_PER_LENGTH
    # A job must be at work in a window that ends after its latest start and begins before its earliest end.
    latest_start_s = jobs.due_s - jobs.service_s
    earliest_end_s = jobs.release_s + jobs.service_s
    low = np.floor((latest_start_s - length_s - first_s) / step_s).astype(np.int64) + 1
    high = np.ceil((earliest_end_s - first_s) / step_s).astype(np.int64) - 1
    count = np.maximum(high - low + 1, 0)
    job = np.repeat(np.arange(count.size), count)
    place = np.arange(job.size) - np.repeat(np.cumsum(count) - count, count) + low[job]
    work_s = _least_work_s(jobs, job, first_s + place * step_s, length_s)
    keep = work_s > _NEGLIGIBLE_S
    job, place, work = job[keep], place[keep], work_s[keep] * jobs.load[job[keep]]
    order = np.argsort(place, kind="stable")
    job, place, work = job[order], place[order], work[order]
    borders = np.flatnonzero(np.diff(place)) + 1
    for members, each in zip(np.split(job, borders), np.split(work, borders), strict=True):
        if each.sum() > length_s * capacity:
            yield Window(members, each, length_s * capacity)


def _least_work_s(jobs: Jobs, job: Integers, start_s: Floats, length_s: float) -> Floats:
    """What each of `job` must work at least in its window, wherever it is put; not above 0 where that is nothing."""
    service_s, release_s, due_s = jobs.service_s[job], jobs.release_s[job], jobs.due_s[job]
    before_s, behind_s = start_s - release_s, due_s - start_s - length_s
    if jobs.may_pause:
        return service_s - np.maximum(before_s, 0.0) - np.maximum(behind_s, 0.0)
    at_most_s = np.minimum(service_s, length_s)
    return np.minimum(at_most_s, service_s - np.maximum(before_s, behind_s))
