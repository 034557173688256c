"""Exports of networks that blur already, in the forms that PyTorch's libraries of anti-aliasing give them.

    pip install torch==2.13.0 onnxscript && python benchmarks/blur_exports.py FOLDER

Writes each network with both exporters, constants folded or not, batch and sizes static or not, reads every file with
aarewrite, and tells where what is found differs from what the network says of itself: exit status 1. The modules are
small ones of our own after the libraries' documentation, what counts being the form that reaches ONNX; where timm and
kornia are installed, their own layers too.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aarewrite
from aarewrite.sites.site import ExistingBlur

Axes = tuple[int, ...]
Expected = list[tuple[Axes, Axes, Axes, str, str]]  # of each blur in order: taps, strides, pads, their mode, placement
Forms = dict[str, tuple[Callable[[], nn.Module], int, Expected]]  # network, spatial axes, its blurs

# ---- the modules ---------------------------------------------------------------------------------------------


def binomial(size: int) -> Tensor:
    """Taps that sum to 1."""
    taps = torch.ones(1)
    for _ in range(size - 1):
        taps = F.conv1d(taps[None, None], torch.ones(1, 1, 2), padding=1)[0, 0]
    return taps / taps.sum()


class PaddedBlur(nn.Module):
    """A padding module, then a depthwise convolution with a buffer of C kernels (antialiased-cnns' form)."""

    def __init__(self, channels: int, size: int = 4, stride: int = 2, rank: int = 2, pad: str = "reflect") -> None:
        super().__init__()
        lo, hi = (size - 1) // 2, size // 2
        kinds = {"reflect": "ReflectionPad", "replicate": "ReplicationPad", "zero": "ConstantPad"}
        kind = getattr(nn, f"{kinds[pad]}{rank}d")
        self.pad = kind([lo, hi] * rank, 0.0) if pad == "zero" else kind([lo, hi] * rank)
        taps = binomial(size)
        kernel = taps if rank == 1 else taps[:, None] * taps[None, :]
        self.register_buffer("filt", kernel[None, None].repeat(channels, 1, *[1] * rank))
        self.stride, self.conv = stride, F.conv1d if rank == 1 else F.conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Blur and sample."""
        return self.conv(self.pad(x), self.filt, stride=self.stride, groups=x.shape[1])


class ExpandedBlur(nn.Module):
    """F.pad on all sides, and one kernel expanded in forward (timm's form)."""

    def __init__(self, channels: int, size: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.padding = [((stride - 1) + (size - 1)) // 2] * 4
        taps = binomial(size)
        self.register_buffer("filt", (taps[:, None] * taps[None, :])[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur and sample."""
        x = F.pad(x, self.padding, "reflect")
        return F.conv2d(x, self.filt.expand(self.channels, -1, -1, -1), stride=self.stride, groups=self.channels)


class MaxBlurPool(nn.Module):
    """Zero padding on all sides by hand, a dense maximum, and a kernel repeated in forward (kornia's form)."""

    def __init__(self, size: int = 3, pool: int = 2) -> None:
        super().__init__()
        self.size, self.pool = size, pool

    def forward(self, x: Tensor) -> Tensor:
        """Maximum, blur and sample."""
        taps = binomial(self.size).to(x)
        kernel = (taps[:, None] * taps[None, :])[None, None].repeat(x.size(1), 1, 1, 1)
        x = F.max_pool2d(x, self.pool, stride=1, ceil_mode=True)
        return F.conv2d(x, kernel, stride=2, padding=(self.size - 1) // 2, groups=x.size(1))


def blur_of_singles(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Every channel as an image of its own, zero padding in the convolution (Composer's form)."""
    n, c, h, w = x.shape
    out = F.conv2d(x.view(-1, 1, h, w), kernel, stride=stride, padding=(kernel.shape[2] // 2, kernel.shape[3] // 2))
    return out.view(n, c, out.shape[2], out.shape[3])


class BlurThenConv(nn.Module):
    """Blur at stride 1 with zero padding, then the strided convolution (Composer's blur_first)."""

    def __init__(self, channels: int, singles: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        taps = binomial(3)
        self.register_buffer("kernel", (taps[:, None] * taps[None, :])[None, None])
        self.singles = singles

    def forward(self, x: Tensor) -> Tensor:
        """Blur, then convolve and sample."""
        if self.singles:
            return self.conv(blur_of_singles(x, self.kernel, 1))
        return self.conv(F.conv2d(x, self.kernel.repeat(x.shape[1], 1, 1, 1), padding=1, groups=x.shape[1]))


def fir(x: Tensor, kernel: Tensor, down: int, pad: tuple[int, int]) -> Tensor:
    """StyleGAN2's upsample-FIR-downsample with its reference operators, up being 1: channels as images of their own,
    negative pads cropped, a flipped kernel, strided slices."""
    _, channels, height, width = x.shape
    x = x.reshape(-1, height, 1, width, 1, 1)
    x = F.pad(x, [0, 0, 0, 0, 0, 0]).view(-1, 1, height, width)
    x = F.pad(x, [max(pad[0], 0), max(pad[1], 0), max(pad[0], 0), max(pad[1], 0)])
    weight = torch.flip(kernel, [0, 1])[None, None]
    x = F.conv2d(x, weight)[:, :, ::down, ::down]
    return x.reshape(-1, channels, x.shape[2], x.shape[3])


class StyleBlock(nn.Module):
    """A discriminator's block: FIR in front of a strided convolution, and FIR with slices in front of the skip's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = binomial(4)
        self.register_buffer("kernel", taps[:, None] * taps[None, :])
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)
        self.skip = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Both branches, added."""
        return self.conv(fir(x, self.kernel, 1, (2, 2))) + self.skip(fir(x, self.kernel, 2, (1, 1)))


def sinc_taps(cutoff: float, half_width: float, size: int) -> Tensor:
    """A sinc in a Kaiser window, normalised (alias-free activations)."""
    attenuation = 2.285 * (size // 2 - 1) * torch.pi * 4 * half_width + 7.95
    beta = (
        0.1102 * (attenuation - 8.7)
        if attenuation > 50
        else 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    )
    places = torch.arange(size) - size // 2 + (0.5 if size % 2 == 0 else 0.0)
    taps = 2 * cutoff * torch.kaiser_window(size, beta=beta, periodic=False) * torch.sinc(2 * cutoff * places)
    return taps / taps.sum()


class AliasFreeActivation(nn.Module):
    """Upsample with a sinc, activate, filter and sample with a sinc (BigVGAN's form)."""

    def __init__(self, size: int = 12) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("filt", sinc_taps(0.25, 0.3, size)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Activation at twice the rate."""
        _, c, _ = x.shape
        crop = self.size // 2 - 1
        up = F.pad(x, (crop, crop), mode="replicate")
        up = 2 * F.conv_transpose1d(up, self.filt.expand(c, -1, -1), stride=2, groups=c)
        edge = crop * 2 + (self.size - 2) // 2
        up = F.relu(up[..., edge : -(edge + (self.size - 1) % 2)])
        up = F.pad(up, (self.size // 2 - 1, self.size // 2), mode="replicate")
        return F.conv1d(up, self.filt.expand(c, -1, -1), stride=2, groups=c)


class Gaussian(nn.Module):
    """A Gaussian whose kernel is computed in forward from its sigma; one kernel, or one per axis in turn."""

    def __init__(self, size: int = 5, sigma: float = 1.2, separable: bool = False, singles: bool = False) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.tensor(sigma))
        self.size, self.separable, self.singles = size, separable, singles

    def forward(self, x: Tensor) -> Tensor:
        """Blur at stride 1, mirrored at the border."""
        places = torch.arange(self.size, dtype=x.dtype) - self.size // 2
        taps = torch.exp(-places.pow(2) / (2 * self.sigma**2))
        taps = taps / taps.sum()
        half, c = self.size // 2, x.size(1)
        x = F.pad(x, [half] * 4, mode="reflect")
        if self.separable:
            x = F.conv2d(x, taps.view(1, 1, 1, -1).expand(c, 1, 1, self.size), groups=c)
            return F.conv2d(x, taps.view(1, 1, -1, 1).expand(c, 1, self.size, 1), groups=c)
        kernel = torch.mm(taps[:, None], taps[None, :])
        if self.singles:
            n, _, h, w = x.shape
            return F.conv2d(x.view(-1, 1, h, w), kernel[None, None]).view(n, c, h - 2 * half, w - 2 * half)
        return F.conv2d(x, kernel.expand(c, 1, self.size, self.size), groups=c)


class Dense(nn.Module):
    """A dense convolution whose kernel passes every channel through alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = binomial(3)
        kernel = torch.zeros(channels, channels, 3, 3)
        kernel[range(channels), range(channels)] = taps[:, None] * taps[None, :]
        self.register_buffer("kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Blur and sample."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2)


def net(*parts: nn.Module, channels: int = 8, rank: int = 2) -> nn.Sequential:
    """Parts between a first convolution and a last one."""
    conv = (nn.Conv1d, nn.Conv2d)[rank - 1]
    return nn.Sequential(conv(3, channels, 3, padding=1), nn.ReLU(), *parts, conv(channels, 4, 1))


def strided(rank: int = 2) -> nn.Module:
    """The strided convolution behind a blur of stride 1."""
    return (nn.Conv1d, nn.Conv2d)[rank - 1](8, 8, 3, stride=2, padding=1)


FORMS: Forms = {
    **{
        f"padded-{size}-{pad}": (
            lambda size=size, pad=pad: net(nn.MaxPool2d(2, 1), PaddedBlur(8, size, pad=pad)), 2,
            [((size, size), (2, 2), ((size - 1) // 2,) * 2 + (size // 2,) * 2, mode, "after")],
        )
        for size, pad, mode in (
            (2, "reflect", "reflect"), (3, "reflect", "reflect"), (4, "reflect", "reflect"),
            (5, "replicate", "edge"), (7, "zero", "zero"),
        )
    },
    "padded-1d": (
        lambda: net(nn.MaxPool1d(2, 1), PaddedBlur(8, 4, rank=1), rank=1), 1, [((4,), (2,), (1, 2), "reflect", "after")]
    ),
    "expanded": (
        lambda: net(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), ExpandedBlur(8)), 2,
        [((3, 3), (2, 2), (1, 1, 1, 1), "reflect", "after")],
    ),
    "max-blur": (lambda: net(MaxBlurPool()), 2, [((3, 3), (2, 2), (1, 1, 1, 1), "zero", "after")]),
    "blur-first": (lambda: net(BlurThenConv(8, False)), 2, [((3, 3), (1, 1), (1, 1, 1, 1), "zero", "before")]),
    "blur-first-singles": (lambda: net(BlurThenConv(8, True)), 2, [((3, 3), (1, 1), (1, 1, 1, 1), "zero", "before")]),
    "fir": (
        lambda: net(StyleBlock(8)), 2,
        [((4, 4), (1, 1), (2, 2, 2, 2), "zero", "before"), ((4, 4), (2, 2), (1, 1, 1, 1), "zero", "after")],
    ),
    "alias-free": (lambda: net(AliasFreeActivation(), rank=1), 1, [((12,), (2,), (5, 6), "edge", "after")]),
    "gaussian": (lambda: net(Gaussian(), strided()), 2, [((5, 5), (1, 1), (2, 2, 2, 2), "reflect", "before")]),
    "gaussian-separable": (
        lambda: net(Gaussian(separable=True), strided()), 2,
        [((1, 5), (1, 1), (2, 2, 2, 2), "reflect", "before"), ((5, 1), (1, 1), (0, 0, 0, 0), "", "before")],
    ),
    "gaussian-singles": (
        lambda: net(Gaussian(singles=True), strided()), 2, [((5, 5), (1, 1), (2, 2, 2, 2), "reflect", "before")]
    ),
    "dense": (lambda: net(Dense(8)), 2, [((3, 3), (2, 2), (1, 1, 1, 1), "reflect", "after")]),
}  # fmt: skip


def of_libraries() -> Forms:
    """The layers of timm and kornia themselves, where they are installed."""
    found: Forms = {}
    with contextlib.suppress(ImportError):
        from timm.layers import BlurPool2d

        found["timm-4"] = (
            lambda: net(nn.MaxPool2d(2, 1), BlurPool2d(8, filt_size=4)), 2,
            [((4, 4), (2, 2), (2, 2, 2, 2), "reflect", "after")],
        )  # fmt: skip
        found["timm-free"] = (
            lambda: net(nn.MaxPool2d(2, 1), BlurPool2d()), 2, [((3, 3), (2, 2), (1, 1, 1, 1), "reflect", "after")]
        )  # fmt: skip
    with contextlib.suppress(ImportError):
        from kornia.filters import BlurPool2D, GaussianBlur2d, MaxBlurPool2D

        each = ((1, 5), (1, 1), (0, 2, 0, 2), "reflect", "before"), ((5, 1), (1, 1), (2, 0, 2, 0), "reflect", "before")
        found |= {
            "kornia-max": (lambda: net(MaxBlurPool2D(3)), 2, [((3, 3), (2, 2), (1, 1, 1, 1), "zero", "after")]),
            "kornia-5": (lambda: net(BlurPool2D(5, 2)), 2, [((5, 5), (2, 2), (2, 2, 2, 2), "zero", "after")]),
            "kornia-gaussian": (lambda: net(GaussianBlur2d((5, 5), (1.2, 1.2)), strided()), 2, list(each)),
            "kornia-whole": (
                lambda: net(GaussianBlur2d((5, 5), (1.2, 1.2), separable=False), strided()), 2,
                [((5, 5), (1, 1), (2, 2, 2, 2), "reflect", "before")],
            ),
        }  # fmt: skip
    return found


# ---- exporting -----------------------------------------------------------------------------------------------


def exports(rank: int) -> dict[str, dict[str, object]]:
    """The ways to export, by name."""
    axes = {0: "n"} | {2 + axis: f"s{axis}" for axis in range(rank)}
    names: dict[str, object] = {"input_names": ["x"], "output_names": ["y"]}
    script = names | {"dynamo": False, "opset_version": 17}
    dynamo = names | {"dynamo": True, "opset_version": 18, "external_data": False}
    free = torch.export.Dim.AUTO
    return {
        "script": script,
        "script11": script | {"opset_version": 11},
        "script-unfolded": script | {"do_constant_folding": False},
        "script-batch": script | {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}},
        "script-sizes": script | {"dynamic_axes": {"x": axes, "y": axes}},
        "dynamo": dynamo,
        "dynamo-plain": dynamo | {"optimize": False},
        "dynamo-batch": dynamo | {"dynamic_shapes": ({0: free},)},
        "dynamo-sizes": dynamo | {"dynamic_shapes": (dict.fromkeys(axes, free),)},
    }


def write(network: nn.Module, x: Tensor, path: Path, options: dict[str, object]) -> str:
    """Export a network; why not, "" where it was done."""
    with silence():
        try:
            target: object = network
            if shapes := options.pop("dynamic_shapes", None):
                target = torch.export.export(network, (x,), dynamic_shapes=shapes)
            torch.onnx.export(target, (x,), str(path), **options)
        except Exception as error:  # the exporters raise what they please
            return str(error).splitlines()[0]
    return ""


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What the exporters print, also from C++, is left out."""
    kept, sink = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1), os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        for one in (*kept, sink):
            os.close(one)


# ---- checking ------------------------------------------------------------------------------------------------


def faults(path: Path, expected: Expected, static: bool) -> list[str]:
    """What aarewrite finds in an export, and makes of it, other than is right."""
    result = aarewrite.rewrite(path)
    found = [
        (s.kernel, s.strides, s.begin + s.end, s.pad, s.placement)
        for s in result.plan.sources
        if isinstance(s, ExistingBlur)
    ]
    wrong = [] if found == expected else [f"found {found}"]
    wrong += [f"{one.site.node} would be blurred again" for one in result.plan.rewrites]
    model = onnx.shape_inference.infer_shapes(result.model, data_prop=True)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    sizes = {v.name: v.type.tensor_type.shape.dim for v in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        if node.op_type == "Pad" and makers.get((*node.input, "")[1], "Constant") != "Constant":
            wrong.append(f"the pads of {node.name} are computed")
        known = all(dim.HasField("dim_value") for dim in list(sizes.get(node.output[0], ()))[1:])
        if node.op_type == "Conv" and not (node.output[0] in sizes and (known or not static)):
            wrong.append(f"the shape behind {node.name} is not known")
    if (
        static
        and {"Reshape", "Slice"} & set(makers.values())
        and path.name.startswith(("fir", "blur-first", "gaussian"))
    ):
        wrong.append("Reshapes or Slices are left")
    if aarewrite.rewrite(result.model).changed:
        wrong.append("a second run changes something")
    return wrong


def main() -> None:
    """Write and check every export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the models are kept; a temporary one if left out")
    parser.add_argument("--only", default="", help="a part of the names")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    right, refused, wrong = 0, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for form, (make, rank, expected) in (FORMS | of_libraries()).items():
            torch.manual_seed(0)
            network, x = make().eval(), torch.randn(2, 3, *[32] * rank)
            for way, options in exports(rank).items():
                path = folder / f"{form}.{way}.onnx"
                if given.only not in path.name:
                    continue
                if why := write(network, x, path, dict(options)):
                    refused += 1
                    print(f"{path.name}: the exporter refuses: {why[:90]}")
                    continue
                found = faults(path, expected, static=not way.endswith("sizes"))
                right, wrong = right + (not found), wrong + bool(found)
                for one in found:
                    print(f"{path.name}: {one}")
    print(f"{right} right, {wrong} wrong, {refused} refused by the exporter")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
