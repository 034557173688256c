"""Throughput of a verification against a bare ONNX Runtime loop over the same views, in one process.

    python benchmarks/verify_throughput.py MODEL.onnx IMAGES [--preprocess caffe] [--limit 24] [--protocol camera]

The bare loop has every view ready in memory and does nothing but run them, at each batch size in turn; the best one
counts. The verification starts from the JPEG files: it decodes and renders (in the background), runs the views and
takes the statistics. With `--protocol camera` a second loop renders its views too, from pictures decoded before: two
threads render batches ahead while the model runs, and nothing is counted. The loops and the verification alternate, so
that a busy machine slows all; the median of the rounds' ratios counts. Target: at least 0.9 of the loop that does the
same work. On a machine with other work the ratio of CPU times is the steadier figure, as long as ONNX Runtime runs on
one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.camera import CONDITIONS
from aarewrite.data.prefetch import prefetch
from aarewrite.data.setup import open_setup
from aarewrite.data.views import Views
from aarewrite.verification.camera import CameraStudy
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.engine import AHEAD, BATCH, Study, run_studies
from aarewrite.verification.maps import infer_task
from aarewrite.verification.protocols import plan_shifts

BATCHES = (1, 2, 4, 8, 16, 32)


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

    setup = open_setup(
        options.model, options.images, preprocess=options.preprocess, provider=options.provider, limit=options.limit
    )
    (model,), count, name = setup.models, len(setup.data), setup.spec.name
    output = infer_task(model, setup.geometry, "classify").grids[0].output
    usual = BATCH[options.provider]

    def study() -> Study:
        if options.protocol == "camera":
            return CameraStudy(setup, [output], CONDITIONS, severity=1, count=1)
        plan = plan_shifts("crop", setup.geometry, options.max_shift, seed=0)
        return ClassifyStudy(plan, Views("crop", setup.geometry, setup.axes), [model.label], [output], setup.data)

    def whole_run() -> None:
        asking = study()
        for found in run_studies([model], setup.sample, range(count), [asking], usual):
            asking.count_in(found.index, (found.notes or [[]])[0])

    asking = study()
    renders = [(asking.look(setup.sample(i)), number) for i in range(count) for number in range(asking.count(i))]

    def rendered(start: int, batch: int = usual) -> Array:
        return np.stack([render(number)[0] for render, number in renders[start : start + batch]])

    views = rendered(0, len(renders))

    def bare_loop(batch: int) -> Callable[[], None]:
        def loop() -> None:
            for start in range(0, len(views), batch):
                model.session.run(None, {name: views[start : start + batch]})

        return loop

    def rendering_loop() -> None:
        for _, stacked in prefetch(rendered, range(0, len(views), usual), ahead=AHEAD):
            model.session.run(None, {name: stacked})

    def seconds(run: Callable[[], None]) -> tuple[float, float]:
        """Wall and CPU seconds."""
        start = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    bare = {batch: min(seconds(bare_loop(batch))[0] for _ in range(2)) for batch in BATCHES}
    for batch, elapsed in bare.items():
        print(f"bare loop, batch {batch:2}        {len(views) / elapsed:8.1f} views/s", flush=True)
    best = min(bare, key=lambda batch: bare[batch])
    loops = {f"bare loop, batch {best}": bare_loop(best)}
    if options.protocol == "camera":
        loops[f"rendering loop, batch {usual}"] = rendering_loop
    runs = {**loops, f"verification, batch {usual}": whole_run}
    rounds = [[seconds(run) for run in runs.values()] for _ in range(options.rounds)]
    for k, what in enumerate(runs):
        print(f"{what:28} {len(views) / min(times[k][0] for times in rounds):8.1f} views/s")
    print(f"{len(views)} views of {count} images, {options.rounds} alternating rounds; verification against the")
    for k, what in enumerate(loops):
        for clock, label in enumerate(("wall", "CPU")):
            ratios = sorted(times[k][clock] / times[-1][clock] for times in rounds)
            middle = statistics.median(ratios)
            print(f"  {what}: {label} time ratio {middle:.3f} (median; {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
