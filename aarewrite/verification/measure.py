"""Measuring a job's samples: here or on workers of a cluster, going on from what a log holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aarewrite.progress import progress_bar
from aarewrite.verification.job import Block, Job
from aarewrite.verification.records import Found
from aarewrite.verification.resume import Log


def measure(job: Job, blocks: Sequence[Block]) -> Iterator[Found]:
    """Yield what is found on samples, in whole blocks and in no order; errors as of `Job.measure`."""
    asked = job.asked
    log = Log(asked.resume, job.identity() if asked.resume else {})
    known = {(one.round, one.index) for one in log.found}
    rest = [block for block in blocks if not known.issuperset(block)]
    samples = sum(map(len, blocks))
    with progress_bar(f"shifting {samples} samples", job.views(blocks), asked.progress) as advance:
        advance(job.views(blocks) - job.views(rest))
        yield from log.found
        if asked.ray is None:
            yield from log.keep(job.measure(rest, advance))
        else:
            from aarewrite.verification.workers import spread

            yield from log.keep(spread(job, rest, asked.ray, advance))
