"""Partial results: a share of the samples measured on one machine, and all shares added up to what one would find."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aarewrite.errors import UsageError
from aarewrite.options import Json
from aarewrite.verification.job import Asked, Block, Job, open_job
from aarewrite.verification.measure import measure
from aarewrite.verification.records import Found
from aarewrite.verification.result import VerifyReport
from aarewrite.verification.run import conclude

MARK = "aarewrite part"


@dataclass(frozen=True)
class Part:
    """What was found on one share of the samples."""

    shard: int  # of `shards`, from 1
    shards: int
    identity: Json  # as of the job: what decides on the figures
    found: Sequence[Found]
    where: str = ""  # the file it was read from

    def to_json(self) -> str:
        """Return it as JSON, every figure to the last bit."""
        found = ",\n".join(json.dumps(one.plain()) for one in self.found)
        head = json.dumps({MARK: [self.shard, self.shards], "identity": self.identity})
        return f'{head[:-1]}, "found": [\n{found}\n]}}\n'


def read_part(path: Path) -> Part:
    """Read what `--shard` wrote; `UsageError` for anything else."""
    try:
        table = json.loads(path.read_text("utf-8"))
        shard, shards = table[MARK]
        return Part(shard, shards, table["identity"], [Found.of(one) for one in table["found"]], str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name the files that verify --shard wrote") from None
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        raise UsageError(f"{path}: no partial result", "name the files that verify --shard wrote") from None


def parse_shard(text: str) -> tuple[int, int]:
    """2/4 as (2, 4); `UsageError` for what is no such share."""
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise UsageError(f"--shard {text}: not a share", "write 1/4, 2/4, 3/4 and 4/4")
    return int(first), int(second)


def measure_part(asked: Asked, shard: str) -> Part:
    """Measure one share of the samples, `i/n`; errors as `verify`, and UsageError for what is no share."""
    number, count = parse_shard(shard)
    job = open_job(asked)
    return Part(number, count, job.identity(), list(measure(job, _share(job, number, count))))


def _share(job: Job, number: int, count: int) -> list[Block]:
    """Neighbouring blocks, so that a machine reads few of the files."""
    blocks = job.blocks()
    return blocks[len(blocks) * (number - 1) // count : len(blocks) * number // count]


def merge(parts: Iterable[Part], **others: object) -> VerifyReport:
    """Add up all parts of a verification: the report is that of a single run, bit for bit.

    Models and data are opened again, as they were named when the parts were measured: layers, parity and pictures are
    taken here. `others` are arguments of `verify` to take instead, such as a model that was given as a value.

    Raises:
        UsageError: A part is missing or there twice, the parts are of different runs, or models and data are others.
    """
    given = sorted(parts, key=lambda part: part.shard)
    if not given:
        raise UsageError("no partial results", "name the files that verify --shard wrote")
    first = given[0]
    for part in given[1:]:
        if (part.shards, part.identity) != (first.shards, first.identity):
            other = next((key for key in first.identity if part.identity.get(key) != first.identity[key]), "number")
            raise UsageError(f"{part.where} and {first.where}: not of one run ({other} differ)", "measure them alike")
    for number in range(1, first.shards + 1):
        found = [part.where for part in given if part.shard == number]
        if len(found) != 1:
            how = f"there twice ({', '.join(found)})" if found else "missing"
            raise UsageError(f"part {number}/{first.shards} is {how}", f"give each of the {first.shards} parts once")
    job = open_job(Asked(**(first.identity["asked"] | others)))
    identity = job.identity()
    for key in identity.keys() - {"asked"}:
        if identity[key] != first.identity[key]:
            raise UsageError(
                f"{key} are not those of {first.where}: {_short(identity[key])} and {_short(first.identity[key])}",
                "merge where models, data and versions are those that were measured",
            )
    job.count(one for part in given for one in part.found)
    return conclude(job)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
