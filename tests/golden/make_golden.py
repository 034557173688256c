"""Make the golden data: stored plain ONNX graphs, and what the published implementations answer.

Run it where torch, torchvision, timm, antialiased-cnns and mosaicml are installed (see README.md):

    python tests/golden/make_golden.py

It writes beside itself `graphs/<graph>.onnx.gz` (plain models as the two PyTorch exporters write them, but
without weights), `expected.npz` (outputs of the anti-aliased PyTorch models) and `cases.json` (how these
belong together). The anti-aliased packages are only run; the numbers they produce are all that is stored.
"""

from __future__ import annotations

import copy
import gzip
import importlib
import importlib.util
import itertools
import json
import sys
import tempfile
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn
from weights import BATCHNORM_EPSILON, fill_in, make_input, make_weight, take_out

HERE = Path(__file__).parent
FILTERS = range(2, 8)
TORCHSCRIPT, DYNAMO = "torchscript", "dynamo"
OUTPUTS = ("logits", "map")
TAKEN_OUT = 16  # tensors with at least so many elements are stored without their data
EXPORT_TOLERANCE = 3e-5  # stored graph, weights filled in, against the plain PyTorch model
VISIBLE = 1e-2  # the blur must change an output by this much of its scale, or a test could not fail
DISTINCT = 1e-3  # and any two recipes for one plain model must differ by this much (tests allow 1e-4)

Outputs = tuple[npt.NDArray[np.float32], ...]


def import_torchvision() -> None:
    """Import torchvision even where it was built for another torch: its own operators are not used here."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)


def import_apply_blurpool() -> Callable[..., None]:
    """Composer's `apply_blurpool`, without importing the trainer and all that it depends on."""
    spec = importlib.util.find_spec("composer")
    if spec is None or spec.origin is None:
        raise SystemExit("install mosaicml (--no-deps is enough)")
    root = Path(spec.origin).parent

    def stand_in(name: str, *classes: str) -> None:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        for attribute in classes:
            setattr(module, attribute, type(attribute, (), {}))
        sys.modules[name] = module

    for package in ("composer", "composer.algorithms", "composer.algorithms.blurpool", "composer.utils"):
        stand_in(package)
    stand_in("composer.core", "Algorithm", "Event", "State")
    stand_in("composer.loggers", "Logger")
    module = importlib.import_module("composer.algorithms.blurpool.blurpool")
    return module.apply_blurpool  # type: ignore[no-any-return]


import_torchvision()

import antialiased_cnns.densenet as aa_densenet  # noqa: E402
import antialiased_cnns.mobilenet as aa_mobilenet  # noqa: E402
import antialiased_cnns.resnet as aa_resnet  # noqa: E402
import timm  # noqa: E402
import timm.models.densenet as timm_densenet  # noqa: E402
import timm.models.efficientnet as timm_efficientnet  # noqa: E402
import timm.models.resnet as timm_resnet  # noqa: E402
import torchvision.models as tv  # noqa: E402
from antialiased_cnns.alexnet import AlexNet as AntialiasedAlexNet  # noqa: E402
from antialiased_cnns.vgg import make_layers as antialiased_vgg_layers  # noqa: E402
from timm.layers import BlurPool2d  # noqa: E402
from timm.models._efficientnet_blocks import SqueezeExcite  # noqa: E402
from timm.models._efficientnet_builder import decode_arch_def  # noqa: E402
from torchvision.models.vgg import make_layers as torchvision_vgg_layers  # noqa: E402

apply_blurpool = import_apply_blurpool()


# ---- backbones ---------------------------------------------------------------------------------------------


class Probe(nn.Module):
    """A backbone with two small outputs: logits, and a signed projection of its last map."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.map = nn.Conv2d(channels, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        return self.head(self.pool(features).flatten(1)), self.map(features)


class TimmBackbone(nn.Module):
    """A timm model up to its last feature map."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.forward_features(x)  # type: ignore[no-any-return]


def resnet_parts(net: Any) -> nn.Module:
    """A ResNet of torchvision or antialiased-cnns up to its last feature map."""
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((name, getattr(net, name)) for name in names))


def resnet(package: Any, block: str, **options: Any) -> nn.Module:
    return resnet_parts(package.ResNet(getattr(package, block), [1, 1, 1, 1], **options))


def densenet(package: Any, **options: Any) -> nn.Module:
    net = package.DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, **options)
    return nn.Sequential(net.features, nn.ReLU())  # both implementations apply this ReLU in `forward`


def alexnet(with_first_relu: bool = True) -> nn.Module:
    features = tv.AlexNet().features
    if not with_first_relu:
        features[1] = nn.Identity()
    return features


def antialiased_alexnet(filter_size: int, pool_only: bool, with_first_relu: bool = True) -> nn.Module:
    """As published, `pool_only=True` has no ReLU behind the first convolution; the plain AlexNet has one."""
    features: nn.Sequential = AntialiasedAlexNet(filter_size=filter_size, pool_only=pool_only).features
    if pool_only and with_first_relu:
        features.insert(1, nn.ReLU())
    return features


VGG_CHANNELS = (8, "M", 16, "M", 24, 24, "M", 32, 32, "M", 48, 48, "M")
EFFICIENTNET = (
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r1_k3_s2_e6_c24_se0.25"],
    ["er_r1_k3_s2_e4_c32"],
    ["ir_r2_k5_s2_e4_c48_se0.25"],
)


class BlurPool5(BlurPool2d):  # type: ignore[misc]
    """timm's layer with five taps, as a class: timm's ResNet takes no partial."""

    def __init__(self, channels: int | None = None, stride: int = 2, **options: Any) -> None:
        super().__init__(channels, 5, stride, **options)


def timm_net(kind: str, aa_layer: Any = None) -> nn.Module:
    """A small timm model, plain or anti-aliased."""
    small_resnet = partial(
        timm_resnet.ResNet, layers=(1, 1, 1, 1), channels=(16, 32, 48, 64), num_classes=0, aa_layer=aa_layer
    )
    match kind:
        case "resnet":
            net = small_resnet(timm_resnet.BasicBlock)
        case "resnet-d":  # deep stem, AvgPool2d shortcuts, squeeze-and-excitation
            attention = {"attn_layer": "se"}
            net = small_resnet(
                timm_resnet.Bottleneck, stem_type="deep", stem_width=16, avg_down=True, block_args=attention
            )
        case "resnext":
            net = small_resnet(timm_resnet.Bottleneck, cardinality=4, base_width=16)
        case "densenet":
            net = timm_densenet.DenseNet(8, (2, 2, 2, 2), num_classes=0, aa_layer=aa_layer)
        case "mobilenetv2" | "mobilenetv3":
            name = {"mobilenetv2": "mobilenetv2_035", "mobilenetv3": "mobilenetv3_small_100"}[kind]
            net = timm.create_model(name, num_classes=0, aa_layer=aa_layer)
        case _:  # SiLU and squeeze-and-excitation behind the strided convolutions
            net = timm_efficientnet.EfficientNet(
                decode_arch_def(EFFICIENTNET),
                num_classes=0,
                num_features=64,
                stem_size=16,
                act_layer="silu",
                se_layer=SqueezeExcite,
                aa_layer=aa_layer,
            )
    return TimmBackbone(net)


def biased() -> nn.Module:
    """Strided convolutions with a bias of their own, and a stride-1 MaxPool."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.ReLU(),
    )


def anisotropic() -> nn.Module:
    """Convolutions that subsample one axis only."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for channels, stride in ((16, (2, 1)), (24, (1, 2))):
        layers += [nn.Conv2d(channels, channels + 8, 3, stride, 1, bias=False), nn.BatchNorm2d(channels + 8)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


# ---- references --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A published anti-aliased model, and the arguments that must make `aarewrite.rewrite` reproduce it.

    `backbone` builds the model; None takes the plain one, which `change` then anti-aliases in place.
    """

    name: str
    arguments: dict[str, Any]
    backbone: Callable[[], nn.Module] | None = None
    change: Callable[[nn.Module], None] = lambda _: None


@dataclass(frozen=True)
class Plain:
    """A plain model and its references."""

    name: str
    backbone: Callable[[], nn.Module]
    size: int
    references: tuple[Reference, ...]
    dynamic: bool = False  # height and width symbolic in the exported graph


def zhang(
    build: Callable[..., nn.Module], recipe: str = "zhang2019", filters: Any = FILTERS, stems: bool = False
) -> Iterator[Reference]:
    """References of antialiased-cnns; with `stems` both as pool_only=True and False."""
    for f, pool_only in itertools.product(filters, (True, False) if stems else (None,)):
        arguments: dict[str, Any] = {"recipe": recipe, "filter": f, "pad": "reflect"}
        options: dict[str, Any] = {"filter_size": f}
        suffix = ""
        if pool_only is not None:
            options["pool_only"] = pool_only
            arguments["first_conv"] = not pool_only
            suffix = "" if pool_only else "-first"
        yield Reference(f"{recipe}-f{f}{suffix}", arguments, partial(build, **options))


def timm_reference(kind: str, size: int = 3) -> Reference:
    """A reference of timm with aa_layer=BlurPool2d."""
    layer = {3: BlurPool2d, 5: BlurPool5}[size]
    arguments = {"recipe": "timm", "filter": size, "pad": "reflect"}
    return Reference(f"timm-f{size}", arguments, partial(timm_net, kind, layer))


def composer(*placements: str) -> Iterator[Reference]:
    """References of Composer's apply_blurpool."""
    for placement in placements:
        arguments = {"recipe": "composer", "filter": 3, "pad": "zero", "placement": placement}
        change = partial(apply_blurpool, replace_maxpools=True, blur_first=placement == "before")
        yield Reference(f"composer-{placement}", arguments, change=change)


def plain_models() -> Iterator[Plain]:
    both = ("before", "after")
    basic = partial(resnet, block="BasicBlock")
    bottleneck = partial(resnet, block="Bottleneck")
    groups = {"groups": 4, "width_per_group": 8}
    mobilenet = {"width_mult": 0.25}
    zhang_resnet = partial(zhang, recipe="zhang2019-resnet", stems=True)

    plain, aa = partial(basic, tv.resnet), partial(basic, aa_resnet)
    yield Plain("resnet", plain, 72, (*zhang_resnet(aa), *composer(*both)))
    yield Plain("resnet-dynamic", plain, 72, tuple(zhang_resnet(aa, filters=(4,))), dynamic=True)
    plain, aa = partial(bottleneck, tv.resnet), partial(bottleneck, aa_resnet)
    yield Plain("bottleneck", plain, 72, (*zhang_resnet(aa, filters=(3, 4)), *composer(*both)))
    plain, aa = partial(bottleneck, tv.resnet, **groups), partial(bottleneck, aa_resnet, **groups)
    yield Plain("resnext", plain, 72, (*zhang_resnet(aa), *composer(*both)))

    plain, aa = partial(densenet, tv.densenet), partial(densenet, aa_densenet)
    yield Plain("densenet", plain, 64, (*zhang(aa, stems=True), *composer("before")))

    def tv_mobilenet() -> nn.Module:
        return tv.MobileNetV2(round_nearest=2, **mobilenet).features

    def aa_mobilenet_v2(**options: Any) -> nn.Module:
        return aa_mobilenet.MobileNetV2(**mobilenet, **options).features  # type: ignore[no-any-return]

    yield Plain("mobilenetv2", tv_mobilenet, 72, (*zhang(aa_mobilenet_v2), *composer(*both)))
    yield Plain("mobilenetv2-dynamic", tv_mobilenet, 72, tuple(composer("after")), dynamic=True)
    yield Plain(
        "vgg",
        partial(torchvision_vgg_layers, VGG_CHANNELS),
        100,
        (*zhang(partial(antialiased_vgg_layers, VGG_CHANNELS)), *composer("before")),
    )
    yield Plain(
        "vgg-bn",
        partial(torchvision_vgg_layers, VGG_CHANNELS, batch_norm=True),
        100,
        tuple(zhang(partial(antialiased_vgg_layers, VGG_CHANNELS, batch_norm=True), filters=(4,))),
    )
    yield Plain("alexnet", alexnet, 127, (*zhang(antialiased_alexnet, stems=True), *composer("before")))
    as_published = partial(antialiased_alexnet, pool_only=True, with_first_relu=False)
    yield Plain("alexnet-norelu", partial(alexnet, False), 127, tuple(zhang(as_published, filters=(4,))))

    for kind in ("resnet", "resnet-d", "resnext", "densenet", "mobilenetv2", "mobilenetv3", "efficientnet"):
        sizes = (3, 5) if kind in ("resnet", "resnet-d") else (3,)
        references = tuple(timm_reference(kind, size) for size in sizes)
        yield Plain(f"timm-{kind}", partial(timm_net, kind), 72, references)

    yield Plain("biased", biased, 40, tuple(composer(*both)))
    yield Plain("anisotropic", anisotropic, 40, tuple(composer(*both)))


# ---- running -----------------------------------------------------------------------------------------------


def parameters(module: nn.Module) -> list[str]:
    """state_dict keys in order, without blur taps and counters."""
    others = ("filt", "num_batches_tracked")
    return [key for key in module.state_dict() if key.rpartition(".")[2] not in others]


def give_weights(module: nn.Module, keys: list[str]) -> None:
    """Set a model's parameters from `keys`, the plain model's state_dict keys.

    An anti-aliased model names some of its layers differently (the blur shifts the indices of a Sequential),
    but defines them in the same order.
    """
    state = module.state_dict()
    for own, key in zip(parameters(module), keys, strict=True):
        if own.rpartition(".")[2] != key.rpartition(".")[2]:
            raise SystemExit(f"{own} cannot take the values of {key}")
        state[own] = torch.from_numpy(make_weight(key, state[own].shape))
    module.load_state_dict(state)


def prepare(backbone: nn.Module, size: int, keys: list[str] | None = None) -> Probe:
    backbone.eval()
    with torch.no_grad():
        channels = backbone(torch.zeros(1, 3, size, size)).shape[1]
    probe = Probe(backbone, channels).eval()
    for module in probe.modules():
        if isinstance(module, nn.BatchNorm2d) and module.eps != BATCHNORM_EPSILON:
            raise SystemExit(f"BatchNorm epsilon {module.eps}")
    give_weights(probe, keys or parameters(probe))
    return probe


def answers(module: nn.Module, size: int) -> Outputs:
    with torch.no_grad():
        return tuple(y.numpy() for y in module(torch.from_numpy(make_input((1, 3, size, size)))))


def reference_answers(reference: Reference, plain: Plain, probe: Probe) -> Outputs:
    if reference.backbone is None:
        model = copy.deepcopy(probe)
    else:
        model = prepare(reference.backbone(), plain.size, parameters(probe))
    reference.change(model)
    return answers(model.eval(), plain.size)


def export(probe: Probe, size: int, exporter: str, dynamic: bool) -> onnx.ModelProto:
    image = torch.from_numpy(make_input((1, 3, size, size)))
    names: dict[str, Any] = {"input_names": ["input"], "output_names": list(OUTPUTS)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "model.onnx")
        if exporter == TORCHSCRIPT:
            if dynamic:
                names["dynamic_axes"] = {"input": {2: "height", 3: "width"}}
            torch.onnx.export(probe, (image,), path, dynamo=False, opset_version=17, **names)
        else:
            if dynamic:
                names["dynamic_shapes"] = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(probe, (image,), path, dynamo=True, external_data=False, verbose=False, **names)
        return onnx.load(path)


def skeleton(model: onnx.ModelProto, probe: Probe) -> onnx.ModelProto:
    """The exported graph without weights and without this machine's file names."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        kept = [entry for entry in part.metadata_props if "stack_trace" not in entry.key]
        del part.metadata_props[:]
        part.metadata_props.extend(kept)
    state = probe.state_dict()
    wide = [key for key in parameters(probe) if state[key].numel() >= TAKEN_OUT]
    take_out(model, {state[key].numpy().tobytes(): key for key in wide})
    return model


def compress(model: onnx.ModelProto, name: str) -> bytes:
    raw = model.SerializeToString()
    data = gzip.compress(raw, mtime=0)
    if b"site-packages" in raw or len(data) > 1 << 16:
        raise SystemExit(f"{name}: file names or weights are left in the graph ({len(data)} bytes)")
    return data


def check_graph(data: bytes, plain: Outputs, size: int, name: str) -> None:
    model = onnx.load_from_string(gzip.decompress(data))
    fill_in(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(list(OUTPUTS), {"input": make_input((1, 3, size, size))})
    error = distance(tuple(results), plain)
    if error > EXPORT_TOLERANCE:
        raise SystemExit(f"{name}: the stored graph is {error:.2g} off what PyTorch computes")


def distance(left: Outputs, right: Outputs) -> float:
    """Largest difference of the outputs, relative to their scale; infinite where shapes differ."""
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) if a.shape == b.shape else np.inf
        for a, b in zip(left, right, strict=True)
    )


def main() -> None:
    torch.set_num_threads(1)
    graphs = HERE / "graphs"
    graphs.mkdir(exist_ok=True)
    for old in graphs.glob("*.onnx.gz"):
        old.unlink()
    cases: list[dict[str, Any]] = []
    expected: dict[str, npt.NDArray[np.float32]] = {}
    for plain in plain_models():
        probe = prepare(plain.backbone(), plain.size)
        untouched = answers(probe, plain.size)
        known: dict[str, Outputs] = {}
        for reference in plain.references:
            result = reference_answers(reference, plain, probe)
            effect = distance(result, untouched)
            apart = min((distance(result, other) for other in known.values()), default=np.inf)
            print(f"{plain.name} {reference.name}: effect {effect:.2g}, from the other recipes {apart:.2g}")
            if effect < VISIBLE or apart < DISTINCT:
                raise SystemExit("too small for a test")
            known[reference.name] = result
            for output, value in zip(OUTPUTS, result, strict=True):
                expected[f"{plain.name}/{reference.name}/{output}"] = value
        for exporter in (TORCHSCRIPT, DYNAMO):
            graph = f"{plain.name}-{exporter}"
            model = export(probe, plain.size, exporter, plain.dynamic)
            data = compress(skeleton(model, probe), graph)
            check_graph(data, untouched, plain.size, graph)
            (graphs / f"{graph}.onnx.gz").write_bytes(data)
            for reference in plain.references:
                case = {"id": f"{graph}-{reference.name}", "graph": graph, "size": plain.size}
                case |= {"expected": f"{plain.name}/{reference.name}", "arguments": reference.arguments}
                cases.append(case)
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    np.savez_compressed(HERE / "expected.npz", **expected)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
