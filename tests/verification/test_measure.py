"""Measuring a job, with its progress."""

from __future__ import annotations

from small_nets import phase_classifier

from aarewrite.verification.job import Asked, open_job
from aarewrite.verification.measure import measure


def test_every_sample_is_found_once():
    job = open_job(Asked(phase_classifier(), "synthetic:11", max_shift=1))
    assert [found.index for found in measure(job, job.blocks())] == list(range(11))
    assert [found.index for found in measure(job, job.blocks()[1:])] == [8, 9, 10]
