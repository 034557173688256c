# SPDX-License-Identifier: Apache-2.0
"""Train the sample models on scikit-learn's handwritten digits and export them to ONNX.

``python sample_models/train.py`` writes every file beside this script: the ``.onnx`` models, the two
evaluation sets and ``accuracy.json``; it prints the accuracy table as Markdown. All seeds are fixed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
Array = npt.NDArray[Any]

EVAL_SIZE = 400
EPOCHS = 24
BATCH = 64
SEED = 7


@dataclass(frozen=True)
class Task:
    """How a clean pattern is placed on a noisy canvas and cropped to a model input.

    Attributes:
        canvas: Side (or length) of the canvas the pattern is placed on.
        crop: Side (or length) of the model input; ``canvas - crop`` shifts keep the pattern whole.
        pattern: Side (or length) of the pattern.
        noise: Standard deviation of the additive Gaussian noise, in units of full scale.
        contrast: Range the pattern's amplitude is drawn from, in units of full scale.
    """

    canvas: int
    crop: int
    pattern: int
    noise: float
    contrast: tuple[float, float]


IMAGE = Task(canvas=40, crop=32, pattern=18, noise=0.16, contrast=(0.3, 0.7))
SIGNAL = Task(canvas=144, crop=128, pattern=96, noise=0.08, contrast=(0.4, 0.7))
BACKGROUND = 0.2


def image_patterns(digits: Array) -> Array:
    """Upscale 8x8 digits (0..16) bilinearly to 18x18 images in 0..1."""
    patterns: Array = zoom(digits / 16.0, (1, 18 / 8, 18 / 8), order=1)
    return patterns


def signal_patterns(digits: Array) -> Array:
    """Read 8x8 digits row by row, every second row backwards, as 96-sample signals in 0..1."""
    scan = digits.copy()
    scan[:, 1::2] = scan[:, 1::2, ::-1]
    patterns: Array = zoom(scan.reshape(len(scan), 64) / 16.0, (1, 96 / 64), order=1)
    return patterns


def place(patterns: Array, task: Task, rng: np.random.Generator) -> Array:
    """Place each pattern at a random offset of its own noisy canvas; returns uint8 ``[N, 1, canvas...]``.

    Offsets are such that the pattern lies inside every ``task.crop`` window of the canvas.
    """
    axes = patterns.ndim - 1
    canvas = np.zeros((len(patterns), *[task.canvas] * axes))
    low, high = task.canvas - task.crop, task.crop - task.pattern
    offsets = rng.integers(low, high + 1, size=(len(patterns), axes))
    amplitudes = rng.uniform(*task.contrast, size=len(patterns))
    for image, pattern, offset, amplitude in zip(canvas, patterns, offsets, amplitudes, strict=True):
        image[tuple(slice(o, o + task.pattern) for o in offset)] = amplitude * pattern
    canvas += BACKGROUND + rng.normal(0, task.noise, canvas.shape)
    return (np.clip(canvas, 0, 1) * 255).round().astype(np.uint8)[:, None]


def model_input(x: Array, task: Task) -> Array:
    """Centre crop to the model's input size and scale uint8 0..255 to float32 0..1."""
    start = (task.canvas - task.crop) // 2
    window = (slice(None), slice(None), *[slice(start, start + task.crop)] * (x.ndim - 2))
    return x[window].astype(np.float32) / np.float32(255)


class Blur(nn.Module):
    """Depthwise binomial 3x3 low-pass filter with reflect padding, then subsampling by 2."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        """Build the filter ``outer([1, 2, 1], [1, 2, 1]) / 16`` for every channel."""
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = (torch.outer(row, row) / 16).expand(channels, 1, 3, 3).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter and subsample ``[N, C, H, W]``."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=x.shape[1])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; with ``blur`` its downsampling is anti-aliased."""

    def __init__(self, inputs: int, outputs: int, stride: int, blur: bool) -> None:
        """Build the block; ``stride`` 2 adds a 1x1 projection shortcut."""
        super().__init__()
        blur = blur and stride == 2
        dense = 1 if blur else stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, dense, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.blur1 = Blur(outputs) if blur else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                Blur(inputs) if blur else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, dense, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.blur1(F.relu(self.bn1(self.conv1(x))))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network: 3x3 stem, MaxPool 3x3 s2, three blocks, global average pooling."""

    def __init__(self, blur: bool = False) -> None:
        """Build the network; the state dict has the same keys with and without ``blur``."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 1 if blur else 2, 1)
        self.blur = Blur(16) if blur else nn.Identity()
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, 1, blur), ResidualBlock(16, 32, 2, blur), ResidualBlock(32, 64, 2, blur)
        )
        self.head = classifier(64)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, 10]``."""
        logits: Tensor = self.head(self.blocks(self.blur(self.pool(self.stem(x)))))
        return logits


def classifier(channels: int) -> nn.Sequential:
    """Global average pooling and a linear layer to the ten classes."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a same-padded convolution without bias and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def vgg() -> nn.Module:
    """VGG-like network: pairs of 3x3 convolutions, each pair followed by MaxPool 2x2."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs in (16, 32, 64):
        layers += [*conv_bn(inputs, outputs), nn.ReLU(), *conv_bn(outputs, outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = outputs
    return nn.Sequential(*layers, *classifier(inputs))


class DenseLayer(nn.Module):
    """Pre-activation 3x3 convolution whose output is concatenated to its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        """Build the layer; it adds ``growth`` channels."""
        super().__init__()
        conv = nn.Conv2d(inputs, growth, 3, 1, 1, bias=False)
        self.layer = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)

    def forward(self, x: Tensor) -> Tensor:
        """Append the new feature maps to ``x``."""
        return torch.cat([x, self.layer(x)], dim=1)


def densenet(growth: int = 12) -> nn.Module:
    """DenseNet-like network: three dense blocks with AveragePool 2x2 transitions."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 1, 1, bias=False)]
    channels = 16
    for block in range(3):
        for _ in range(3):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        if block < 2:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), *classifier(channels))


class InvertedResidual(nn.Module):
    """MobileNetV2 block: 1x1 expansion, depthwise 3x3, linear 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 3) -> None:
        """Build the block; it is residual when ``stride`` is 1 and the channel count is kept."""
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *conv_bn(inputs, hidden, 1),
            nn.ReLU6(),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *conv_bn(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def mobilenet() -> nn.Module:
    """MobileNetV2-like network: strided stem, then inverted residuals with strided depthwise convolutions."""
    plan = [(16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 48, 2), (48, 48, 1)]
    blocks = [InvertedResidual(*block) for block in plan]
    stem = [*conv_bn(1, 16, 3, 2), nn.ReLU6()]
    return nn.Sequential(*stem, *blocks, *conv_bn(48, 128, 1), nn.ReLU6(), *classifier(128))


def conv1d() -> nn.Module:
    """1-D network: strided Conv1d layers and a MaxPool1d."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, 1, 3, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 5, 2, 2, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Conv1d(32, 64, 5, 2, 2, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Conv1d(64, 64, 5, 2, 2, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def train(build: Callable[[], nn.Module], patterns: Array, labels: Array, task: Task) -> nn.Module:
    """Train a model with AdamW; every epoch places the training patterns anew."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    steps = len(patterns) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        x = torch.from_numpy(model_input(place(patterns, task, rng), task))
        order = torch.from_numpy(rng.permutation(len(x)))[: steps * BATCH]
        for batch in order.split(BATCH):
            loss = F.cross_entropy(model(x[batch]), torch.from_numpy(labels)[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def without_paths(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop doc strings and every metadata entry that holds a source path or stack trace."""
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for item in (model, graph, *graph.node, *values):
        item.ClearField("doc_string")
        kept = [entry for entry in item.metadata_props if "/" not in entry.value and "\\" not in entry.value]
        if len(kept) != len(item.metadata_props):
            entries = [(entry.key, entry.value) for entry in kept]
            item.ClearField("metadata_props")
            for key, value in entries:
                item.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    for path in (str(HERE), sys.prefix, str(Path.home()), 'File "'):
        if path != "/" and path.encode() in data:
            raise ValueError(f"the exported model still contains {path!r}")
    return model


def export(model: nn.Module, name: str, task: Task, axes: int, dynamo: bool) -> None:
    """Export to ``name``.onnx: opset 17 from the TorchScript exporter, opset 18 from the dynamo exporter."""
    path = HERE / f"{name}.onnx"
    example = torch.zeros(2, 1, *[task.crop] * axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=dynamo,
            verbose=False,
            opset_version=18 if dynamo else 17,
            external_data=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes=None if dynamo else {"input": {0: "batch"}, "logits": {0: "batch"}},
            dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamo else None,
        )
    proto = without_paths(onnx.load(path))
    onnx.checker.check_model(proto, full_check=True)
    if proto.ir_version > 10:
        raise ValueError(f"{name}: IR version {proto.ir_version} is newer than 10")
    onnx.save(proto, path)


def logits(model: Path | onnx.ModelProto, x: Array) -> Array:
    """Run a model in ONNX Runtime."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"input": x})[0])


def blur_by_hand(model: onnx.ModelProto) -> onnx.ModelProto:
    """Insert the blurs into the plain residual graph, written for this one graph only.

    MaxPool and 3x3 convolutions become dense, with the blur after the pool or after the convolution's
    ReLU; a 1x1 convolution becomes dense with the blur before it.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    channels = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in graph.value_info}
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "blur_pads")
    graph.initializer.append(pads)
    nodes: list[onnx.NodeProto] = []
    blurred_outputs: set[str] = set()

    def add_blur(source: str, target: str) -> None:
        row = np.array([1, 2, 1], np.float32)
        kernel = np.tile(np.outer(row, row) / 16, (channels[source], 1, 1, 1)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(kernel, f"{target}_kernel"))
        nodes.append(helper.make_node("Pad", [source, "blur_pads"], [f"{target}_padded"], mode="reflect"))
        inputs = [f"{target}_padded", f"{target}_kernel"]
        nodes.append(helper.make_node("Conv", inputs, [target], strides=[2, 2], group=channels[source]))

    for node in graph.node:
        strides = next((a for a in node.attribute if a.name == "strides"), None)
        kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), [])
        nodes.append(node)
        if strides is not None and list(strides.ints) == [2, 2]:
            strides.ints[:] = [1, 1]
            if kernel == [1, 1]:
                nodes.pop()
                add_blur(node.input[0], f"{node.output[0]}_blurred_input")
                node.input[0] = f"{node.output[0]}_blurred_input"
                nodes.append(node)
            else:
                blurred_outputs.add(node.output[0])
        if node.op_type == "MaxPool" or (node.op_type == "Relu" and node.input[0] in blurred_outputs):
            target, dense = node.output[0], f"{node.output[0]}_dense"
            channels[dense] = channels[target]
            node.output[0] = dense
            add_blur(dense, target)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def report(rows: Iterable[dict[str, object]]) -> str:
    """Format the result rows as a Markdown table."""
    lines = ["| file | exporter | opset | KB | accuracy % |", "| --- | --- | ---: | ---: | ---: |"]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Write every sample model, the evaluation sets and ``accuracy.json``."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    train_x, eval_x, train_y, eval_y = train_test_split(
        digits.images, digits.target, test_size=EVAL_SIZE, random_state=SEED, stratify=digits.target
    )
    rng = np.random.default_rng(SEED + 1)
    evaluation = {
        "digits": place(image_patterns(eval_x), IMAGE, rng),
        "signals": place(signal_patterns(eval_x), SIGNAL, rng),
    }
    for kind, x in evaluation.items():
        np.savez_compressed(HERE / f"{kind}_eval.npz", x=x, labels=eval_y.astype(np.int64))

    images, signals = image_patterns(train_x), signal_patterns(train_x)
    plan: list[tuple[str, Callable[[], nn.Module], bool]] = [
        ("resnet", ResNet, False),
        ("vgg", vgg, False),
        ("densenet", densenet, True),
        ("mobilenet", mobilenet, True),
        ("conv1d", conv1d, False),
        ("resnet_blur", lambda: ResNet(blur=True), True),
        ("resnet_blurtrained", ResNet, False),
    ]
    rows: list[dict[str, object]] = []
    trained: dict[str, nn.Module] = {}
    for name, build, dynamo in plan:
        started = time.perf_counter()
        kind, task, patterns = ("signals", SIGNAL, signals) if name == "conv1d" else ("digits", IMAGE, images)
        if name == "resnet_blurtrained":
            model = build().eval()
            model.load_state_dict(trained["resnet_blur"].state_dict())
        else:
            model = train(build, patterns, train_y, task)
        trained[name] = model
        export(model, name, task, patterns.ndim - 1, dynamo)
        path = HERE / f"{name}.onnx"
        x = model_input(evaluation[kind], task)
        output = logits(path, x)
        with torch.no_grad():
            np.testing.assert_allclose(output, model(torch.from_numpy(x)).numpy(), atol=1e-4, rtol=0)
        rows.append(
            {
                "file": path.name,
                "exporter": "dynamo" if dynamo else "TorchScript",
                "opset": onnx.load(path).opset_import[0].version,
                "kilobytes": round(path.stat().st_size / 1000),
                "accuracy_percent": round(100 * float(np.mean(output.argmax(1) == eval_y)), 2),
            }
        )
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)

    x = model_input(evaluation["digits"], IMAGE)
    rewritten = logits(blur_by_hand(onnx.load(HERE / "resnet_blurtrained.onnx")), x)
    difference = float(np.abs(rewritten - logits(HERE / "resnet_blur.onnx", x)).max())
    if difference > 1e-4:
        raise ValueError(f"blurs inserted in resnet_blurtrained.onnx: outputs differ by {difference:.2e}")
    results = {"models": rows, "blurtrained_with_blur_vs_blur_max_abs_difference": difference}
    (HERE / "accuracy.json").write_text(json.dumps(results, indent=2) + "\n")
    print(report(rows))
    print(f"\n`resnet_blurtrained.onnx` with blurs inserted equals `resnet_blur.onnx` to {difference:.1e}.")


if __name__ == "__main__":
    main()
