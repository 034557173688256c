"""Two workers of a local Ray cluster against one, over the same images.

    python benchmarks/ray_workers.py MODEL.onnx IMAGES [--preprocess caffe] [--limit 64]

A worker decodes, renders and runs ONNX Runtime on one core. Counted are the views a second from when every worker has
handed back its first block, without the seconds in which Ray starts, and with them. Target: 0.85 of twice the rate.
Where other work takes the cores, the views a second of the workers' own CPU time are the steadier figure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from pathlib import Path

import ray

from aarewrite.verification.job import Asked, open_job
from aarewrite.verification.workers import spread


def cpu_seconds() -> float:
    """What the workers that descend from this process took so far (Linux)."""
    parents, ticks = dict[int, int](), dict[int, int]()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            values = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(values[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                ticks[int(entry.name)] = int(values[11]) + int(values[12])

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return sum(count for pid, count in ticks.items() if ours(pid)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure with one worker, then with two."""
    parser = argparse.ArgumentParser(description="two Ray workers against one")
    parser.add_argument("model", type=Path)
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--limit", type=int, default=64)
    options = parser.parse_args()
    asked = Asked(options.model, options.images, preprocess=options.preprocess, limit=options.limit, max_shift=1)
    job = open_job(asked)
    rates, own = [], []
    for cores in (1, 2):
        ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        began, came = time.perf_counter(), list[tuple[float, float, int]]()

        def arrived(views: int, came: list[tuple[float, float, int]] = came) -> None:
            came.append((time.perf_counter(), cpu_seconds(), views))

        for _ in spread(job, job.blocks(), "auto", arrived):
            pass
        ray.shutdown()
        (first, used, _), (last, at_end, _) = came[cores - 1], came[-1]
        views = sum(views for *_, views in came[cores:])
        rates.append(views / (last - first))
        own.append(views / (at_end - used))
        whole = sum(views for *_, views in came) / (last - began)
        print(
            f"{cores} workers: {rates[-1]:.1f} views/s, with the start {whole:.1f}; {own[-1]:.1f} a second of CPU time",
            flush=True,
        )
    print(f"two workers: {rates[1] / (2 * rates[0]):.3f} of twice the rate of one; by CPU time {own[1] / own[0]:.3f}")


if __name__ == "__main__":
    main()
