"""Networks for signals as PyTorch exports them, to be streamed: a TCN, a WaveNet-like one, 1-D U-Nets, an open batch.

    pip install torch onnxscript && python benchmarks/stream_exports.py FOLDER

Weights are random: what is streamed and how exactly does not depend on them. Every network is written by both of
PyTorch's exporters, `NAME-ts.onnx` (opset 14) and `NAME-dynamo.onnx` (opset 18).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

CHANNELS = 2


class Chomp(nn.Module):
    """Takes away what a symmetric padding gave too much at the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Without the last indices."""
        return x[:, :, : -self.size]


class TemporalBlock(nn.Module):
    """Two causal, dilated convolutions beside a skip, as in Bai et al. 2018."""

    def __init__(self, channels: int, out: int, dilation: int, kernel: int = 3) -> None:
        super().__init__()
        pad = (kernel - 1) * dilation
        layers: list[nn.Module] = []
        for width in (channels, out):
            conv = nn.Conv1d(width, out, kernel, padding=pad, dilation=dilation)
            layers += [parametrizations.weight_norm(conv), Chomp(pad), nn.ReLU(), nn.Dropout(0.2)]
        self.net = nn.Sequential(*layers)
        self.skip = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        return torch.relu(self.net(x) + self.skip(x))


class Tcn(nn.Module):
    """A temporal convolutional network, read at the last index or averaged over the window."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        widths = (CHANNELS, 32, 32, 32, 32)
        self.blocks = nn.Sequential(*(TemporalBlock(widths[k], widths[k + 1], 2**k) for k in range(4)))
        self.head, self.last = nn.Linear(32, 5), last

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = self.blocks(x)
        return self.head(x[:, :, -1] if self.last else x.mean(-1))


class WaveNet(nn.Module):
    """Gated, dilated layers with skips, two stacks of 6, every index an output."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Conv1d(CHANNELS, width, 1)
        dilations = [2**k for k in range(6)] * 2
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, dilation=d, padding=d) for d in dilations)
        self.mixes = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in dilations)
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores at every index."""
        x = self.first(x)
        skips = torch.zeros_like(x)
        for gate, mix in zip(self.gates, self.mixes, strict=True):
            a, b = gate(x).chunk(2, 1)
            residual, skip = mix(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            x, skips = x + residual, skips + skip
        return self.last(skips)


class UNet(nn.Module):
    """Three levels down and up, with skips; up by a transposed convolution or by repeating values."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.down = nn.ModuleList(self._two(a, b) for a, b in zip((CHANNELS, 16, 32), widths, strict=True))
        self.bottom = self._two(64, 64)
        self.rise = nn.ModuleList(
            nn.ConvTranspose1d(w, w, 4, 2, 1) if transposed else nn.Upsample(scale_factor=2) for w in (64, 64, 32)
        )
        self.up = nn.ModuleList(self._two(a + b, b) for a, b in ((64, 64), (64, 32), (32, 16)))
        self.last = nn.Conv1d(16, 3, 1)

    @staticmethod
    def _two(channels: int, out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in (channels, out):
            layers += [nn.Conv1d(width, out, 3, padding=1), nn.BatchNorm1d(out), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Scores at every index."""
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = torch.max_pool1d(skips[-1], 2)
        x = self.bottom(x)
        for rise, block in zip(self.rise, self.up, strict=True):
            x = block(torch.cat([rise(x), skips.pop()], 1))
        return self.last(x)


class Attention(nn.Module):
    """Attention between all indices: there is nothing to keep behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(CHANNELS, 32, 5, padding=2)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        return self.head(self.block(self.first(x).transpose(1, 2)).mean(1))


NETS = {
    "tcn-last": (lambda: Tcn(True), 256), "tcn-mean": (lambda: Tcn(False), 1024), "wavenet": (WaveNet, 2048),
    "unet-transposed": (lambda: UNet(True), 2048), "unet-repeated": (lambda: UNet(False), 2048),
    "attention": (Attention, 256),
}  # fmt: skip


def main() -> None:
    """Write every network into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for name, (make, window) in NETS.items():
        torch.manual_seed(0)
        net, example = make().eval(), torch.randn(2, CHANNELS, window)
        for suffix, how in (("ts", {"opset_version": 14, "dynamo": False}), ("dynamo", {"opset_version": 18})):
            dynamic = (
                {"dynamic_axes": {"x": {0: "batch"}}}
                if suffix == "ts"
                else {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
            )
            path = folder / f"{name}-{suffix}.onnx"
            torch.onnx.export(net, (example,), path, input_names=["x"], output_names=["y"], **how, **dynamic)
            print(path)


if __name__ == "__main__":
    main()
