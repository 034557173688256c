"""Throughput of a verification against bare ONNX Runtime loops over the same views, in one process.

    python benchmarks/verify_throughput.py MODEL.onnx IMAGES [--preprocess caffe] [--limit 24] [--protocol camera]

Three loops, of which none counts anything:

- the bare loop has every view ready in memory and runs them, one batch after the other, on a session that takes all
  cores, as ONNX Runtime's defaults have it; the best of several batch sizes counts;
- the same with several batches at a time, on as many threads and of the size that the verification has: the least that
  can be done for the figures;
- the working loop runs as many at a time and does what has to be done for it: images decoded, brought to the canvas and
  to the model's units by two threads, views cut or rendered and stacked by the threads that run them.

The verification does that, too, takes the statistics, and makes what it found plain values. Loops and verification
alternate, so that a busy machine slows all; the median of the rounds' ratios counts. Target: at least 0.9 of each. On a
machine with other work the ratio of CPU times is the steadier figure for the last two; waiting threads of the first
take CPU time, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.camera import CONDITIONS
from aarewrite.data.prefetch import prefetch
from aarewrite.data.setup import open_setup
from aarewrite.data.views import Views
from aarewrite.model.runner import Model
from aarewrite.verification.camera import CameraStudy
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.engine import BATCH, Render, Study, run_studies, share_cores
from aarewrite.verification.maps import infer_task
from aarewrite.verification.protocols import plan_shifts

BATCHES = (1, 4, 8, 16)


def main() -> None:
    """Measure the bare loop at every batch size, then alternate the best with the verification."""
    parser = argparse.ArgumentParser(description="verification against a bare ONNX Runtime loop")
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--protocol", choices=("crop", "camera"), default="crop")
    parser.add_argument("--max-shift", type=int, default=8)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    provider = options.provider
    runs, threads = share_cores(provider, 0)
    setup = open_setup(
        options.model, options.images, preprocess=options.preprocess, provider=provider, limit=options.limit,
        threads=threads,
    )  # fmt: skip
    (model,), count, usual = setup.models, len(setup.data), BATCH[provider]
    output = infer_task(model, setup.geometry, "classify").grids[0].output

    def study() -> Study:
        if options.protocol == "camera":
            return CameraStudy(setup, [output], CONDITIONS, severity=1, count=1)
        plan = plan_shifts("crop", setup.geometry, options.max_shift, seed=0)
        return ClassifyStudy(plan, Views("crop", setup.geometry, setup.axes), [model.label], [output], setup.data)

    def whole_run() -> None:
        asking = study()
        for found in run_studies([model], setup.sample, range(count), [asking], usual, runs=runs):
            asking.count_in(found.index, (found.notes or [[]])[0])

    looking = study()

    def batches() -> Iterator[list[tuple[Render, int]]]:
        for _, (render, views) in prefetch(lambda i: (looking.look(setup.sample(i)), looking.count(i)), range(count)):
            for start in range(0, views, usual):
                yield [(render, number) for number in range(start, min(start + usual, views))]

    def stacked(batch: list[tuple[Render, int]]) -> Array:
        return np.stack([render(number)[0] for render, number in batch])

    def run(views: Array) -> None:
        model.session.run([output], {setup.spec.name: views})

    def working_loop() -> None:
        for _ in prefetch(lambda batch: run(stacked(batch)), batches(), runs, 2 * runs):
            pass

    views = np.concatenate([stacked(batch) for batch in batches()])
    everything = Model(options.model, provider).session  # takes all cores

    def bare_loop(batch: int) -> Callable[[], None]:
        def loop() -> None:
            for start in range(0, len(views), batch):
                everything.run([output], {setup.spec.name: views[start : start + batch]})

        return loop

    def beside_each_other() -> None:
        starts = range(0, len(views), usual)
        for _ in prefetch(lambda start: run(views[start : start + usual]), starts, runs, 2 * runs):
            pass

    def seconds(run: Callable[[], None]) -> tuple[float, float]:
        """Wall and CPU seconds."""
        start = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    bare = {batch: min(seconds(bare_loop(batch))[0] for _ in range(2)) for batch in BATCHES}
    for batch, elapsed in bare.items():
        print(f"bare loop, batch {batch:2}        {len(views) / elapsed:8.1f} views/s", flush=True)
    best = min(bare, key=lambda batch: bare[batch])
    how = f"{runs} at a time, batch {usual}"
    loops = {
        f"bare loop, batch {best}": bare_loop(best),
        f"bare loop, {how}": beside_each_other,
        f"working loop, {how}": working_loop,
    }
    timed = {**loops, f"verification, {how}": whole_run}
    rounds = [[seconds(run) for run in timed.values()] for _ in range(options.rounds)]
    for k, what in enumerate(timed):
        print(f"{what:38} {len(views) / min(times[k][0] for times in rounds):8.1f} views/s")
    print(f"{len(views)} views of {count} images, {options.rounds} alternating rounds; verification against the")
    for k, what in enumerate(loops):
        for clock, label in enumerate(("wall", "CPU")):
            ratios = sorted(times[k][clock] / times[-1][clock] for times in rounds)
            middle = statistics.median(ratios)
            print(f"  {what}: {label} time ratio {middle:.3f} (median; {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
