"""aarewrite among the tools around it: exporters, quantisation, half precision, simplifiers, optimised models.

    pip install torch torchvision timm onnxscript onnxslim && python benchmarks/pipelines.py --models resnet18,vit_tiny

Each network, with random weights, is exported by both of PyTorch's exporters and rewritten with proof; then each step
is taken before the rewrite and after it, and the result compared with the float32 rewrite on the same input:

- ONNX Runtime's static quantisation (QDQ, int8): relative error, root mean square, beside that of the original alone;
  at most twice as much, and four times where the scales were measured before the rewrite
- float16, by ONNX Runtime's converter: likewise
- onnxslim: largest difference over the largest value, at most 1e-4
- the model that ONNX Runtime saves after its extended optimisations (com.microsoft nodes), as input: how many sites are
  left to rewrite

Prints a table in Markdown; exit status 1 where a step fails or differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from blur_exports import silence
from torch import Tensor, nn

import aarewrite

SIZE = 96
EXPORTERS: dict[str, dict[str, object]] = {
    "script": {"dynamo": False, "opset_version": 17},
    "dynamo": {"dynamo": True, "opset_version": 18, "external_data": False},
}
STEPS = (
    "int8 alone",
    "int8 after",
    "int8 before",
    "fp16 after",
    "fp16 before",
    "slim after",
    "slim before",
    "ORT before",
)
LARGEST = {"fp16 after": 0.02, "fp16 before": 0.02, "slim after": 1e-4, "slim before": 1e-4}
ort.set_default_logger_severity(3)


class Detector(nn.Module):
    """A YOLO-like net: strided convolutions with SiLU, split bottlenecks, pyramid pooling, a neck, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = self.conv(3, 16, 3, 2), self.conv(16, 32, 3, 2)
        self.first, self.second = self.conv(16, 16, 3), self.conv(16, 16, 3)
        self.merge, self.down8, self.down16 = self.conv(48, 32, 1), self.conv(32, 48, 3, 2), self.conv(48, 64, 3, 2)
        self.reduce, self.spread = self.conv(64, 32, 1), self.conv(128, 64, 1)
        self.neck, self.heads = self.conv(112, 48, 3), nn.ModuleList([nn.Conv2d(48, 24, 1), nn.Conv2d(64, 24, 1)])

    @staticmethod
    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        """Convolution, normalisation, activation."""
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """Both heads' maps, flattened and joined."""
        a, b = self.down(self.stem(x)).chunk(2, 1)
        x = self.merge(torch.cat([a, b, b + self.second(self.first(b))], 1))
        mid = self.down8(x)
        x = self.reduce(self.down16(mid))
        pools = [x]
        for _ in range(3):
            pools.append(nn.functional.max_pool2d(pools[-1], 5, 1, 2))
        deep = self.spread(torch.cat(pools, 1))
        near = self.neck(torch.cat([nn.functional.interpolate(deep, scale_factor=2.0), mid], 1))
        return torch.cat([head(m).flatten(2) for head, m in zip(self.heads, (near, deep), strict=True)], 2)


def of_torchvision(name: str) -> nn.Module:
    """A network of torchvision with random weights."""
    import torchvision

    more = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, weights=None, **more)


def of_timm(name: str) -> nn.Module:
    """A network of timm with random weights."""
    import timm

    return timm.create_model(name, pretrained=False, img_size=SIZE)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        name: (lambda name=name: of_torchvision(name))
        for name in ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121",
                     "regnet_x_400mf", "inception_v3")
    },
    "vit_tiny": lambda: of_timm("vit_tiny_patch16_224"),
    "yolo-like": Detector,
}  # fmt: skip


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The first output, optimised as in use."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    return session.run(None, {given.name: x.astype(np.float16 if "float16" in given.type else np.float32)})[0]


def settled(network: nn.Module) -> nn.Module:
    """A network whose normalisations hold the statistics of noise: random weights alone let maps fade to nothing."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        for _ in range(2):
            network.train()(torch.randn(4, 3, SIZE, SIZE))
    return network.eval()


def quantised(model: onnx.ModelProto, samples: list[np.ndarray], folder: Path) -> onnx.ModelProto:
    """QDQ in int8, scales from a few samples."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{model.graph.input[0].name: sample} for sample in samples])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    source, prepared, target = folder / "float.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    onnx.save(model, source)
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(target)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and maps in float16, inputs and outputs as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplified by onnxslim."""
    import onnxslim

    return onnxslim.slim(model)


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime saves after its extended optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """With proof."""
    return aarewrite.rewrite(model).model


def error(step: str, found: np.ndarray, expected: np.ndarray) -> float:
    """Relative: root mean squares, or largest values for onnxslim."""
    difference = found.astype(np.float64) - expected
    if "slim" in step:
        return float(np.abs(difference).max() / np.abs(expected).max())
    return float(np.sqrt((difference**2).mean() / (expected**2).mean()))


def row(name: str, exporter: str, folder: Path) -> tuple[list[str], bool]:
    """The cells of a network and an exporter, and whether all is right."""
    torch.manual_seed(0)
    network, x = settled(NETWORKS[name]()), torch.randn(1, 3, SIZE, SIZE)
    path = folder / f"{name}.{exporter}.onnx"
    with silence():
        torch.onnx.export(network, (x,), str(path), input_names=["x"], **EXPORTERS[exporter])
    model, sample = onnx.load(path), x.numpy()
    samples = [sample, *np.random.default_rng(0).standard_normal((3, 1, 3, SIZE, SIZE)).astype(np.float32)]
    result = aarewrite.rewrite(model)
    plain, aligned = run(model, sample), result.model
    expected = run(aligned, sample).astype(np.float64)
    cells = [f"{len(result.plan.rewrites)} of {len(result.plan.sites)}"]
    right = bool(np.isfinite(expected).all()) and expected.shape == plain.shape
    with silence():
        alone = error("int8", run(quantised(model, samples, folder), sample), plain)
    cells.append(f"{alone:.1g}")
    steps: dict[str, Callable[[], onnx.ModelProto]] = {
        "int8 after": lambda: quantised(aligned, samples, folder),
        "int8 before": lambda: rewritten(quantised(model, samples, folder)),
        "fp16 after": lambda: halved(aligned),
        "fp16 before": lambda: rewritten(halved(onnx.load(path))),
        "slim after": lambda: slimmed(aligned),
        "slim before": lambda: rewritten(slimmed(onnx.load(path))),
    }
    for step, make in steps.items():
        try:
            with silence():
                off = error(step, run(make(), sample), expected)
            cells.append(f"{off:.1g}")
            right &= off <= LARGEST.get(step, (4 if "before" in step else 2) * alone)
        except Exception:
            cells.append("fails")
            right = False
            print(f"{name}.{exporter}: {step}: {traceback.format_exc().splitlines()[-1][:200]}", file=sys.stderr)
    with silence():
        fused = optimised(model, folder)
        made = aarewrite.rewrite(fused)
        run(made.model, sample)
    fixed = [source for source in made.plan.sources if "com.microsoft" in source.reason]
    cells.append(f"{len(made.plan.rewrites)}, {len(fixed)} named")
    return cells, right


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(NETWORKS))
    names = parser.parse_args().models.split(",")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    all_right = True
    print("| network | exporter | sites | " + " | ".join(STEPS) + " |")
    print("|---|---|---|" + "---|" * len(STEPS))
    for name in names:
        for exporter in EXPORTERS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    cells, right = row(name, exporter, Path(folder))
                except Exception:
                    cells, right = [traceback.format_exc().splitlines()[-1][:120]], False
            all_right &= right
            print(f"| {name} | {exporter} | " + " | ".join(cells) + " |", flush=True)
    sys.exit(not all_right)


if __name__ == "__main__":
    main()
