"""Small nets that tests of several floors rewrite, and what they read off the rewrites."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from reference import Array, build, weight

import aarewrite
from aarewrite.filters import depthwise_kernel
from aarewrite.recipe import Recipe, SiteOverride
from aarewrite.sites.site import ExistingBlur, Site

A_TROUS = Recipe(name="test", last_stage="a trous")
TWO_POOLS = """(float[1, 2, 16, 16] x) => (float[] y) {
    ["stem/pool"] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
    ["body/pool"] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
}"""


def three_sites(size: int = 33) -> onnx.ModelProto:
    """A max pool, a strided conv with a Relu behind it and an average pool, the map halved each time."""
    text = f"""(float[1, 2, {size}, {size}] x) => (float[] y) {{
        [pool1] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
        [conv1] b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, w)
        [relu] c = Relu(b)
        [pool2] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(c)
    }}"""
    return build(text, w=weight(4, 2, 3, 3))


def two_stages(tail: str = "pooled = GlobalAveragePool (sum)", size: int | str = 17) -> onnx.ModelProto:
    """Two strided stages, the second with a strided shortcut, a depthwise conv and a squeeze-excite branch."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 13]>
        net (float[1, 3, {size}, {size}] x) => (float[n, c, h, w] pooled) {{
            first = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1)
            act = Relu (first)
            second = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (act, w2)
            shortcut = Conv <strides = [2, 2]> (act, w3)
            second_act = Relu (second)
            inner = Conv <group = 6, pads = [1, 1, 1, 1]> (second_act, w4)
            squeezed = GlobalAveragePool (second_act)
            gate = Sigmoid (squeezed)
            gated = Mul (inner, gate)
            sum = Add (gated, shortcut)
            {tail}
        }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (4, 3, 3, 3)), ("w2", (6, 4, 3, 3)), ("w3", (6, 4, 1, 1)), ("w4", (6, 1, 3, 3))):
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return model


def values(model: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {"x": x})[0])


def actions(plan: aarewrite.Plan) -> dict[str, str]:
    return {entry.site.node: entry.action for entry in plan.sites}


def edited(do: str, *sites: str) -> dict[str, Any]:
    """A plan of `two_stages` edited by hand: every site kept, and one stage."""
    table: dict[str, Any] = aarewrite.plan(two_stages(), "aligned").to_dict()
    for site in table["sites"]:
        site["action"] = "keep"
    return table | {"stages": [{"do": do, "sites": list(sites)}]}


def as_format_1(table: dict[str, Any], key: str, mark: object, other: object) -> dict[str, Any]:
    """The same plan as the format before had it: a mark at each site of the stage."""
    marked = {site for stage in table["stages"] for site in stage["sites"]}
    sites = [site | {key: mark if site["node"] in marked else other} for site in table["sites"]]
    return {name: value for name, value in table.items() if name != "stages"} | {"format": 1, "sites": sites}


def begins(plan: aarewrite.Plan, do: str) -> tuple[str, ...]:
    """The operators at which a stage of a plan begins, () where it has none of the kind."""
    return next((stage.sites for stage in plan.stages if stage.name == do), ())


def before(match: str = "*") -> Recipe:
    return Recipe(name="before", first_conv=True, sites=(SiteOverride(match, action="blur", placement="before"),))


def reasons(model: onnx.ModelProto, **options: Any) -> dict[str, str]:
    """Node name -> reason for every kept site and every other source."""
    plan = aarewrite.plan(model, **options)
    kept = {planned.site.node: planned.reason for planned in plan.sites if planned.match is None}
    return kept | {source.node: source.reason for source in plan.sources}


def site_of(model: onnx.ModelProto, node: str) -> Site:
    """The site of a node as it is found."""
    return next(planned.site for planned in aarewrite.plan(model).sites if planned.site.node == node)


def blurs(model: onnx.ModelProto) -> dict[str, ExistingBlur]:
    """The blurs that are found, by name."""
    return {source.node: source for source in aarewrite.plan(model).sources if isinstance(source, ExistingBlur)}


def taps(*sizes: int, channels: int = 2) -> Array:
    return depthwise_kernel(sizes, channels).astype(np.float32)


def filtered(text: str, shape: str = "1, 2, 16, 16", opset: int = 17, **more: Array) -> onnx.ModelProto:
    """A graph with those of these constants that it reads."""
    known = {
        "taps": taps(3, 3), "single": taps(4, 4, channels=1), "across": taps(1, 3), "down": taps(3, 1),
        "w": weight(2, 2, 3, 3), "pads": np.array([0, 0, 1, 2, 0, 0, 1, 2]),
        "singles": np.array([-1, 1, 16, 16]), "back": np.array([-1, 2, 13, 13]), "start": np.array([1]),
        "end": np.array([2**40]), "rows": np.array([2]), "columns": np.array([3]), "by": np.array([2]),
        "two_pads": np.array([1, 2, 1, 2]), "axes": np.array([2, -1]),
    } | more  # fmt: skip
    words = set(text.replace(")", " ").replace(",", " ").replace("(", " ").split())
    used = {name: value for name, value in known.items() if name in words}
    return build(f"(float[{shape}] x) => (float[] y) {{ {text} }}", opset=opset, **used)
