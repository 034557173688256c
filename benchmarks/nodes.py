"""What a model's number of nodes costs: load, plan, apply and save, without the proof, at three sizes.

    python benchmarks/nodes.py [--sizes 25000,50000,100000]

The model is a chain of blocks of six nodes, with a residual Add and some arithmetic of shapes in each; every tenth ends
in a strided max pool, and five blocks on the map grows again. Prints seconds of the processor and microseconds a node,
which must not grow.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from aarewrite.model.model_file import load, save
from aarewrite.rewriting.apply import applied
from aarewrite.rewriting.pipeline import plan

CHANNELS, SIDE = 4, 64


def made(count: int) -> onnx.ModelProto:
    """A model of about so many nodes."""
    nodes, last = [], "x"
    tensors = [onnx.numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice")]
    weights = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
    for block in range(count // 6):
        name = f"block{block}"
        tensors.append(onnx.numpy_helper.from_array(weights, f"{name}/w"))
        nodes += [
            helper.make_node("Conv", [last, f"{name}/w"], [f"{name}/a"], f"{name}/conv"),
            helper.make_node("Relu", [f"{name}/a"], [f"{name}/b"], f"{name}/relu"),
            helper.make_node("Shape", [f"{name}/b"], [f"{name}/s"], f"{name}/shape"),
            helper.make_node("Reshape", [f"{name}/b", f"{name}/s"], [f"{name}/c"], f"{name}/reshape"),
            helper.make_node("Add", [f"{name}/c", last], [f"{name}/d"], f"{name}/add"),
        ]
        if block % 10 == 4:
            pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [f"{name}/d"], [f"{name}/e"], f"{name}/pool", **pool))
        elif block % 10 == 9:
            nodes.append(helper.make_node("Resize", [f"{name}/d", "", "twice"], [f"{name}/e"], f"{name}/resize"))
        else:
            nodes.append(helper.make_node("Sigmoid", [f"{name}/d"], [f"{name}/e"], f"{name}/sigmoid"))
        last = f"{name}/e"
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])
    answer = helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "nodes", [image], [answer], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="25000,50000,100000")
    parser.add_argument("--profile", action="store_true", help="print where the time of the largest goes")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    print(f"{'nodes':>8} {'load':>12} {'plan':>12} {'apply':>12} {'save':>12} {'MB at most':>11}   s (us a node)")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / "nodes.onnx"
            onnx.save(made(size), path)
            profile = cProfile.Profile() if asked.profile and size == sizes[-1] else None
            taken: list[float] = []

            def timed(step: Callable[[], object], taken: list[float] = taken) -> object:
                start = time.process_time()
                result = step()
                taken.append(time.process_time() - start)
                return result

            if profile:
                profile.enable()
            model = timed(lambda path=path: load(path))
            found = timed(lambda model=model: plan(model))
            rewritten = timed(lambda found=found, model=model: applied(found, model))
            timed(lambda rewritten=rewritten, path=path: save(rewritten, path.with_name("out.onnx")))
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
            figures = " ".join(f"{t:6.2f} ({t / size * 1e6:3.0f})" for t in taken)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{size:8} {figures} {peak:11.0f}   {len(found.rewrites)} sites", flush=True)


if __name__ == "__main__":
    main()
