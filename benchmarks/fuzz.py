"""Mutants of models through load, plan, rewrite with its proof, and verify: nothing but an answer may come out.

    python benchmarks/fuzz.py FOLDER ... [--seconds 300] [--seed 0] [--start 0]

Each mutant runs in a worker that may be killed: an exception that is none of aarewrite's own, a crash, more than 10
seconds of the processor or more than 2 GB are findings, kept as files with their seed. Prints the counts by outcome.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from mutations import mutant

from aarewrite.errors import AarewriteError

LONGEST = 10.0  # seconds
MOST = 2 << 30  # bytes above what the worker takes at first
LARGEST_SEED = 3 << 20  # bytes of a model that is mutated


def outcome(
    path: Path,
    verified: bool,
    recipe: str = "aligned",
    target: str | None = None,
    first_conv: bool | None = None,
    protocol: str = "crop",
    task: str | None = None,
) -> str:
    """What becomes of a file: how it ended, and for what is no answer the place."""
    from aarewrite.rewriting.pipeline import rewrite
    from aarewrite.verification import verify

    try:
        result = rewrite(path, recipe, target=target, first_conv=first_conv)
        if verified:
            verify(str(path), "synthetic:3", protocols=(protocol,), task=task, layers=task is None, batch=2)
        return "rewritten and proven" if result.changed else "unchanged"
    except AarewriteError as error:
        nothing = "nothing was compared" in error.message or "nothing can be measured" in error.message
        failed = "nothing to measure" if nothing else "a check failed"
        return {1: failed, 2: "usage", 3: "refused"}[error.exit_status]
    except Exception as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if "aarewrite" in one.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"FINDING {type(error).__name__} at {place}: {str(error)[:100]}"


def _work(channel: multiprocessing.connection.Connection) -> None:
    import aarewrite.rewriting.pipeline
    import aarewrite.verification  # noqa: F401  # before its memory is counted

    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST, resource.RLIM_INFINITY))
    while True:
        path, verified = channel.recv()
        channel.send(outcome(Path(path), verified))


def _processor_time(process: int | None) -> float:
    """Seconds, of all its threads; other work on the machine does not count."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Worker:
    """A process that is started again after it died."""

    def __init__(self) -> None:
        self.channel, there = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_work, args=(there,), daemon=True)
        self.process.start()
        there.close()

    def ask(self, path: Path, verified: bool) -> str:
        """The outcome; "FINDING ..." where the worker died or took too long."""
        self.channel.send((str(path), verified))
        began, at_first = time.monotonic(), _processor_time(self.process.pid)
        try:
            while time.monotonic() - began < LONGEST * 12:
                if self.channel.poll(0.5):
                    return str(self.channel.recv())
                if _processor_time(self.process.pid) - at_first > LONGEST:
                    break
        except (EOFError, ConnectionError):
            self.process.join()
            return f"FINDING crash {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        return f"FINDING hang of {LONGEST:g} s"


def main() -> None:
    """Mutate for a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-findings")
    asked = parser.parse_args()
    found = sorted(file for folder in asked.folders for file in folder.rglob("*.onnx"))
    seeds = [file for file in found if file.stat().st_size <= LARGEST_SEED]
    asked.keep.mkdir(exist_ok=True)
    counts: collections.Counter[str] = collections.Counter()
    worker, began, slowest = Worker(), time.monotonic(), 0.0
    number = asked.start
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - began < asked.seconds:
            source = seeds[np.random.default_rng([asked.seed, number]).integers(len(seeds))]
            path = Path(folder) / "mutant.onnx"
            path.write_bytes(mutant(source.read_bytes(), [asked.seed, number]))
            start = time.monotonic()
            said = worker.ask(path, number % 4 == 0)
            slowest = max(slowest, time.monotonic() - start)
            counts[said] += 1
            if said.startswith("FINDING") or said == "a check failed":
                kept = asked.keep / f"{asked.seed}-{number}.onnx"
                kept.write_bytes(path.read_bytes())
                if counts[said] == 1 or said == "a check failed":
                    print(f"{number} {source.name}: {said}", flush=True)
            if not worker.process.is_alive():
                worker = Worker()
            number += 1
    print(f"mutants {asked.start} to {number - 1} of seed {asked.seed}; the slowest took {slowest:.1f} s")
    for said, count in counts.most_common():
        print(f"{count:7} {said}")


if __name__ == "__main__":
    main()
