"""Throughput of a consistency run against a bare ONNX Runtime loop over the same crops, in one process.

    python benchmarks/verify_throughput.py MODEL.onnx IMAGES [--preprocess caffe] [--limit 24] [--max-shift 8]

The bare loop has every crop ready in memory and does nothing but run them, at each batch size in turn; the best
one counts. The consistency run starts from the JPEG files: it decodes (in the background), preprocesses, cuts
the crops, runs them and takes the statistics. The two alternate, so that a busy machine slows both; the median of
the rounds' ratios counts. Target: at least 0.9. On a machine with other work the ratio of CPU times is the steadier
figure, as long as ONNX Runtime runs on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from aarewrite.data.geometry import plan_geometry, prepare
from aarewrite.data.preprocess import load_preprocess
from aarewrite.data.sources import open_data, prefetch
from aarewrite.data.views import Views
from aarewrite.model.runner import Model
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.engine import BATCH, run_studies
from aarewrite.verification.maps import infer_task
from aarewrite.verification.protocols import plan_shifts

BATCHES = (1, 2, 4, 8, 16, 32)


def main() -> None:
    """Measure the bare loop at every batch size, then alternate the best with the consistency run."""
    parser = argparse.ArgumentParser(description="consistency run against a bare ONNX Runtime loop")
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--max-shift", type=int, default=8)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    model = Model(options.model, options.provider)
    data = open_data(options.images, limit=options.limit)
    recipe = load_preprocess(options.preprocess)
    spec = model.image_inputs[0]
    geometry = plan_geometry(spec, data, recipe, None)
    plan = plan_shifts("crop", geometry, options.max_shift, seed=0)
    views = Views("crop", geometry, tuple(axis - 1 for axis in spec.axes))
    output = infer_task(model, geometry, "classify").grids[0].output

    def study() -> ClassifyStudy:
        return ClassifyStudy(plan, views, [model.label], [output], data)

    def whole_run() -> None:
        samples = (s for _, s in prefetch(lambda i: prepare(data, i, spec, recipe, geometry, 0), len(data)))
        run_studies([model], samples, [study()], BATCH[options.provider])

    asking = study()
    prepared = (prepare(data, i, spec, recipe, geometry, 0) for i in range(len(data)))
    crops = np.stack([arrays[0] for sample in prepared for _, arrays in asking.requests(sample)])

    def bare_loop(batch: int) -> Callable[[], None]:
        def loop() -> None:
            for start in range(0, len(crops), batch):
                model.session.run(None, {spec.name: crops[start : start + batch]})

        return loop

    def seconds(run: Callable[[], None]) -> tuple[float, float]:
        """Wall and CPU seconds."""
        start = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    bare = {batch: min(seconds(bare_loop(batch))[0] for _ in range(2)) for batch in BATCHES}
    for batch, elapsed in bare.items():
        print(f"bare loop, batch {batch:2}        {len(crops) / elapsed:8.1f} crops/s", flush=True)
    best = min(bare, key=lambda batch: bare[batch])
    pairs = [(seconds(bare_loop(best)), seconds(whole_run)) for _ in range(options.rounds)]
    alone, ours = (min(wall for wall, _ in sides) for sides in zip(*pairs, strict=True))
    print(f"bare loop, batch {best:2}, again {len(crops) / alone:8.1f} crops/s")
    print(f"consistency run, batch {BATCH[options.provider]:2}  {len(crops) / ours:8.1f} crops/s")
    print(f"{len(crops)} crops of {len(data)} images, {options.rounds} alternating rounds, target 0.9:")
    for k, clock in enumerate(("wall", "CPU")):
        ratios = sorted(first[k] / second[k] for first, second in pairs)
        print(f"  {clock:4} time ratio {statistics.median(ratios):.3f} (median; {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
