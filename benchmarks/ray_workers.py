"""Two workers of a local Ray cluster against one, over the same images.

    python benchmarks/ray_workers.py MODEL.onnx IMAGES [--preprocess caffe] [--limit 64]

A worker decodes, renders and runs ONNX Runtime on one core. Counted are the views a second from when every worker has
handed back its first block, without the seconds in which Ray starts, and with them. Target: 0.85 of twice the rate.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ray

from aarewrite.verification.job import Asked, open_job
from aarewrite.verification.workers import spread


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
    rates = []
    for cores in (1, 2):
        ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        began, came = time.perf_counter(), list[tuple[float, int]]()
        for _ in spread(job, job.blocks(), "auto", lambda views, came=came: came.append((time.perf_counter(), views))):
            pass
        ray.shutdown()
        first, last = came[cores - 1][0], came[-1][0]
        rates.append(sum(views for _, views in came[cores:]) / (last - first))
        whole = sum(views for _, views in came) / (last - began)
        print(f"{cores} workers: {rates[-1]:.1f} views/s, with the start {whole:.1f}", flush=True)
    print(f"two workers: {rates[1] / (2 * rates[0]):.3f} of twice the rate of one")


if __name__ == "__main__":
    main()
