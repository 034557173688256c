"""Random small graphs: whatever is rewritten is proven, keeps its shapes, equals the independent reference, and is
left alone by a second run; whatever is kept has a reason."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import Array, blur, build, dense, dense_pads, output_size, relative_difference, run, session, weight

import aarewrite

BUILT_IN = ["aligned", "calibrated", "zhang2019", "zhang2019-resnet", "timm", "composer"]
OPS = ["MaxPool", "AveragePool", "LpPool", "Conv"]
TAILS = ["one", "inner_output", "two_readers", "residual", "output_and_reader"]
ACTIVATIONS = [
    "none", "relu", "relu6", "leaky", "prelu", "silu", "hardswish", "gelu", "batchnorm", "batchnorm_relu",
    "scaled_relu", "relu_batchnorm",
]  # fmt: skip
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Case:
    """One random graph; `size` is the map's size in front of the operator."""

    op: str
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    auto_pad: str
    ceil_mode: bool
    count_include_pad: bool
    p: int
    channels: int
    per_group: int
    depthwise: bool
    bias: bool
    stem: bool
    activation: str
    tail: str
    opset: int
    symbolic: bool
    constant_nodes: bool

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def inputs(self) -> int:
        return self.channels * (1 if self.depthwise else self.per_group)

    @property
    def outputs(self) -> int:
        return (
            self.channels * (2 if self.op == "Conv" and not self.depthwise else 1) if self.op == "Conv" else self.inputs
        )

    @property
    def group(self) -> int:
        return self.channels if self.op == "Conv" else 1


@st.composite
def cases(draw: st.DrawFn, tails: tuple[str, ...] = tuple(TAILS)) -> Case:
    op = draw(st.sampled_from(OPS))
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))

    def axes(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(st.lists(values, min_size=rank, max_size=rank)))

    opset = draw(st.integers(7, 22))
    kernel = axes(st.sampled_from([1, 2, 3, 3, 4, 5]))
    dilated = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18, "Conv": 1}[op]
    dilations = axes(st.sampled_from([1, 1, 1, 2, 3])) if opset >= dilated else (1,) * rank
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    begin = tuple(draw(st.integers(0, k - 1)) for k in kernel) if auto_pad == "NOTSET" else (0,) * rank
    end = tuple(draw(st.integers(0, k - 1)) for k in kernel) if auto_pad == "NOTSET" else (0,) * rank
    size = axes(st.integers(4, 13 if rank < 3 else 8))
    fits = zip(size, kernel, dilations, begin, end, strict=True)
    assume(auto_pad.startswith("SAME") or all(n + b + e > (k - 1) * d for n, k, d, b, e in fits))
    ceils = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18, "Conv": 99}[op]
    return Case(
        op=op,
        size=size,
        kernel=kernel,
        strides=axes(st.integers(1, 4)),
        dilations=dilations,
        begin=begin,
        end=end,
        auto_pad=auto_pad,
        ceil_mode=opset >= ceils and auto_pad == "NOTSET" and draw(st.booleans()),
        count_include_pad=op == "AveragePool" and draw(st.booleans()),
        p=draw(st.sampled_from([1, 2, 3])),
        channels=draw(st.integers(1, 3)),
        per_group=draw(st.integers(1, 2)),
        depthwise=draw(st.booleans()),
        bias=draw(st.booleans()),
        stem=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        tail=draw(st.sampled_from(tails)),
        opset=opset,
        symbolic=rank == 2 and draw(st.integers(0, 5)) == 0,
        constant_nodes=draw(st.booleans()),
    )


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    chosen: dict[str, Any] = {"recipe": draw(st.sampled_from(BUILT_IN))}
    if draw(st.booleans()):
        chosen["filter"] = draw(st.integers(1, 7))
    if draw(st.booleans()):
        chosen["pad"] = draw(st.sampled_from(["reflect", "edge", "zero"]))
    if draw(st.booleans()):
        chosen["first_conv"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        chosen["placement"] = draw(st.sampled_from(["after", "before"]))
    return chosen


# ---- graphs ------------------------------------------------------------------------------------------------


def attribute_text(case: Case) -> str:
    fields: dict[str, Any] = {"kernel_shape": list(case.kernel), "strides": list(case.strides)}
    if any(d > 1 for d in case.dilations):
        fields["dilations"] = list(case.dilations)
    if case.auto_pad != "NOTSET":
        fields["auto_pad"] = f'"{case.auto_pad}"'
    elif any(case.begin + case.end):
        fields["pads"] = list(case.begin + case.end)
    if case.ceil_mode:
        fields["ceil_mode"] = 1
    if case.count_include_pad:
        fields["count_include_pad"] = 1
    if case.op == "LpPool":
        fields["p"] = case.p
    if case.op == "Conv":
        fields["group"] = case.group
    return ", ".join(f"{name} = {value}" for name, value in fields.items())


def activation_text(case: Case, source: str, target: str) -> tuple[str, dict[str, Array]]:
    """Nodes from `source` to `target`, and the constants they read."""
    per_channel = (case.outputs, *(1,) * case.rank)
    constants = {
        "slope": np.full(per_channel, 0.2, np.float32),
        "factor": np.full(per_channel, 1.5, np.float32),
        "shift": np.full((1, *per_channel), 0.25, np.float32),
        "zero": np.float32(0), "six": np.float32(6), "three": np.float32(3), "one": np.float32(1),
        "half": np.float32(0.5), "root": np.float32(math.sqrt(2)),
        "gamma": np.linspace(0.5, 1.5, case.outputs, dtype=np.float32),
        "beta": np.linspace(-0.5, 0.5, case.outputs, dtype=np.float32),
    }  # fmt: skip
    clip = (lambda a, b: f"{b} = Clip({a}, zero, six)") if case.opset >= 11 else (
        lambda a, b: f"{b} = Clip<min = 0.0, max = 6.0>({a})"
    )  # fmt: skip
    norm = "BatchNormalization({}, gamma, beta, beta, gamma)"
    text = {
        "none": f"{target} = Identity({source})",
        "relu": f"{target} = Relu({source})",
        "relu6": clip(source, target),
        "leaky": f"{target} = LeakyRelu<alpha = 0.2>({source})",
        "prelu": f"{target} = PRelu({source}, slope)",
        "silu": f"gate = Sigmoid({source}) {target} = Mul({source}, gate)",
        "hardswish": f"up = Add({source}, three) {clip('up', 'cut')} "
        f"wide = Mul({source}, cut) {target} = Div(wide, six)",
        "gelu": (
            f"scaled = Div({source}, root) erf = Erf(scaled) plus = Add(erf, one) both = Mul({source}, plus) "
            f"{target} = Mul(both, half)"
        ),
        "batchnorm": f"{target} = {norm.format(source)}",
        "batchnorm_relu": f"normal = {norm.format(source)} {target} = Relu(normal)",
        "scaled_relu": f"larger = Mul({source}, factor) moved = Add(larger, shift) {target} = Relu(moved)",
        "relu_batchnorm": f"positive = Relu({source}) {target} = {norm.format('positive')}",
    }[case.activation]
    names = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return text + "\n", {name: value for name, value in constants.items() if name in names}


def activate(case: Case, x: Array) -> Array:
    """The same in numpy."""
    column = (-1, *(1,) * case.rank)
    gamma = np.linspace(0.5, 1.5, case.outputs, dtype=np.float32).astype(np.float64).reshape(column)
    beta = np.linspace(-0.5, 0.5, case.outputs, dtype=np.float32).astype(np.float64).reshape(column)

    def norm(y: Array) -> Array:
        return np.asarray((y - beta) / np.sqrt(gamma + 1e-5) * gamma + beta)

    def relu(y: Array) -> Array:
        return np.maximum(y, 0)

    erf = np.vectorize(math.erf)
    functions = {
        "none": lambda y: y,
        "relu": relu,
        "relu6": lambda y: np.clip(y, 0, 6),
        "leaky": lambda y: np.where(y < 0, 0.2 * y, y),
        "prelu": lambda y: np.where(y < 0, 0.2 * y, y),
        "silu": lambda y: y / (1 + np.exp(-y)),
        "hardswish": lambda y: y * np.clip(y + 3, 0, 6) / 6,
        "gelu": lambda y: 0.5 * y * (1 + erf(y / math.sqrt(2))),
        "batchnorm": norm,
        "batchnorm_relu": lambda y: relu(norm(y)),
        "scaled_relu": lambda y: relu(1.5 * y + 0.25),
        "relu_batchnorm": lambda y: norm(relu(y)),
    }
    return np.asarray(functions[case.activation](x))


def make_model(case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The case as a model, and its initializers."""
    values: dict[str, Array] = {}
    text, source = "", "x"
    if case.stem:
        values["stem_w"] = weight(case.inputs, case.inputs, *(1,) * case.rank, seed=1)
        text, source = "[stem] stemmed = Conv(x, stem_w)\n", "stemmed"
    operands = [source]
    if case.op == "Conv":
        values["w"] = weight(case.outputs, case.inputs // case.group, *case.kernel, seed=2)
        operands.append("w")
        if case.bias:
            values["b"] = weight(case.outputs, seed=3)
            operands.append("b")
    text += f"[site] raw = {case.op}<{attribute_text(case)}>({', '.join(operands)})\n"
    after, constants = activation_text(case, "raw", "end")
    text += after
    outputs = ["y"]
    if case.tail == "residual":
        values["short_w"] = weight(case.outputs, case.inputs, *(1,) * case.rank, seed=4)
        text += f"[short] short = Conv<strides = {list(case.strides)}>({source}, short_w)\n"
        text += "sum = Add(end, short) y = Relu(sum)\n"
    elif case.tail == "two_readers":
        text += "y = Neg(end) z = Sigmoid(end)\n"
        outputs.append("z")
    elif case.tail == "inner_output":
        text += "y = Identity(end)\n"
        outputs.append("raw")
    elif case.tail == "output_and_reader":
        text += "y = Neg(end)\n"
        outputs.append("end")
    else:
        text += "y = Identity(end)\n"
    dims = ["N" if case.symbolic else 2, case.inputs, *(["H", "W"] if case.symbolic else case.size)]
    declared = ", ".join(f"float[] {name}" for name in outputs)
    body = f"(float[{', '.join(map(str, dims))}] x) => ({declared}) {{\n{text}}}"
    if case.constant_nodes:
        model = build(body, opset=case.opset, **(values | constants))
    else:
        model = build(body, opset=case.opset, ir=3 if case.opset <= 8 else 8, **(values | constants))
    return model, values


def input_for(case: Case) -> Array:
    """A random input; where the sizes are open it is wide enough for every reflect pad."""
    return weight(2, case.inputs, *((38, 31) if case.symbolic else case.size), seed=9)


def original_outputs(model: onnx.ModelProto, x: Array) -> list[Array]:
    """The original's outputs; what ONNX Runtime cannot do, and empty maps, are no cases."""
    try:
        values = [np.asarray(value) for value in session(model).run(None, {"x": x})]
    except Exception:
        values = []
    assume(bool(values) and all(value.size for value in values))
    return values


def rewritten(model: onnx.ModelProto, options: dict[str, Any]) -> aarewrite.Result:
    """The result, with everything that holds for any graph checked."""
    before = model.SerializeToString()
    try:
        result = aarewrite.rewrite(model, **options)
    except aarewrite.CannotHandle as error:  # SAME over open sizes: none of the sizes tried runs in ONNX Runtime
        assume("cannot run the original on random input" not in str(error))
        raise
    assert model.SerializeToString() == before, "the caller's model was changed"
    for planned in result.plan.sites:
        assert (planned.action == "blur") == (planned.match is not None)
        assert planned.match or planned.reason.strip(), f"{planned.site.node} is kept without a reason"
    assert all(source.reason.strip() for source in result.plan.sources)
    assert result.changed == (result.proof is not None)
    if not result.changed:
        assert result.model.SerializeToString() == before
    again = aarewrite.rewrite(result.model, **options)
    assert not again.changed, f"a second run rewrites {[p.site.node for p in again.plan.rewrites]}"
    assert again.model.SerializeToString() == result.model.SerializeToString()
    return result


@settings(max_examples=75, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases(), options=recipes())
def test_any_graph_is_rewritten_and_proven_or_left_with_a_reason(case: Case, options: dict[str, Any]) -> None:
    model, _ = make_model(case)
    x = input_for(case)
    before = original_outputs(model, x)
    result = rewritten(model, options)
    after = run(result.model, x=x)
    unproven = [p for p in result.plan.rewrites if p.match and not p.match.proven]
    if not (unproven and case.symbolic):
        assert [value.shape for value in after] == [value.shape for value in before]


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases(tails=("residual",)), options=recipes())
def test_residual_branches_stay_aligned(case: Case, options: dict[str, Any]) -> None:
    case = dataclasses.replace(
        case, kernel=tuple(k | 1 for k in case.kernel), dilations=(1,) * case.rank, auto_pad="NOTSET", ceil_mode=False
    )
    half = tuple(k // 2 for k in case.kernel)
    model, _ = make_model(dataclasses.replace(case, begin=half, end=half))
    x = input_for(case)
    before = original_outputs(model, x)
    result = rewritten(model, options)
    assert [value.shape for value in run(result.model, x=x)] == [value.shape for value in before]


@settings(max_examples=90, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    case=cases(tails=("one", "two_readers", "output_and_reader")),
    filter=st.integers(1, 7),
    pad=st.sampled_from(["reflect", "edge", "zero"]),
)
def test_a_single_site_equals_the_reference(case: Case, filter: int, pad: str) -> None:
    case = dataclasses.replace(case, symbolic=False)
    model, values = make_model(case)
    x = input_for(case)
    original_outputs(model, x)
    result = rewritten(model, {"filter": filter, "pad": pad, "first_conv": True})
    if not result.changed:
        return
    source = x if not case.stem else np.einsum("oi,ni...->no...", values["stem_w"].reshape(case.inputs, -1), x)
    rows = list(zip(case.size, case.kernel, case.strides, case.dilations, case.begin, case.end, strict=True))
    pads = [dense_pads(*row, case.auto_pad, case.ceil_mode) for row in rows]
    full = dense(
        case.op, source, case.kernel, pads, case.dilations, values.get("w"), values.get("b"), case.group,
        case.count_include_pad, case.p,
    )  # fmt: skip
    if case.op == "Conv":  # behind the activation
        expected = blur(activate(case, full), filter, case.strides, pad)
    else:  # a pool's blur follows it directly
        expected = activate(case, blur(full, filter, case.strides, pad))
    assert expected.shape[2:] == tuple(output_size(*row, case.auto_pad, case.ceil_mode) for row in rows)
    expected = {"one": expected, "two_readers": -expected, "output_and_reader": -expected}[case.tail]
    assert relative_difference(run(result.model, x=x)[0], expected) <= TOLERANCE


def test_properties_reach_rewrites() -> None:
    """Guards the tests above: most random cases do load, and most of those are rewritten."""
    seen = {"loaded": 0, "rewritten": 0, "all": 0}

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases())
    def count(case: Case) -> None:
        model, _ = make_model(case)
        seen["all"] += 1
        original_outputs(model, input_for(case))
        seen["loaded"] += 1
        seen["rewritten"] += aarewrite.plan(model, first_conv=True).rewrites != ()

    count()
    assert seen["loaded"] >= 0.4 * seen["all"]
    assert seen["rewritten"] >= 0.35 * seen["loaded"]


@pytest.mark.parametrize("op", ["LpPool", "Conv"])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_with_a_kernel_smaller_than_the_stride(op: str, auto_pad: str) -> None:
    """ONNX Runtime then pads by a negative amount, which moves the window: skipped with its reason, or proven."""
    for n, k, s in ((7, 1, 4), (8, 1, 4), (8, 2, 4), (9, 1, 3)):
        text = f'kernel_shape = [{k}], strides = [{s}], auto_pad = "{auto_pad}"'
        operands, values = ("x, w", {"w": weight(2, 2, k)}) if op == "Conv" else ("x", {})
        model = build(f"(float[1, 2, {n}] x) => (float[] y) {{ [site] y = {op}<{text}>({operands}) }}", **values)
        rewritten(model, {"first_conv": True})


@pytest.mark.parametrize("f", [1, 3])
def test_nothing_is_rewritten_twice_whatever_the_placement(f: int) -> None:
    text = "{ [site] a = Conv<strides = [2, 2]>(x, w) y = Relu(a) }"
    model = build(f"(float[1, 1, 9, 9] x) => (float[] y) {text}", w=weight(1, 1, 3, 3))
    for placement in ("before", "after"):
        rewritten(model, {"first_conv": True, "filter": f, "placement": placement})
