"""Tables are read from their files and looked up by domain, version and type."""

from __future__ import annotations

from itertools import pairwise

import onnx
import pytest
from reference import build

from aarewrite.targets.seen import seen_nodes
from aarewrite.targets.table import Kernels, Table, read_table


@pytest.mark.parametrize("name", ["coreml", "openvino", "ort_cuda", "tensorrt"])
def test_every_operator_of_a_table_is_one_of_onnx(name: str) -> None:
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    # of ONNX Runtime's, and older than ONNX 1.0
    others = {"Affine", "ConstantFill", "Crop", "ImageScaler", "IsFinite", "ParametricSoftplus", "ScaledTanh",
              "SimplifiedLayerNormalization"}  # fmt: skip
    own = {key for key in read_table(name).operators if key[0] != "com.microsoft"}
    assert {op for domain, op in own if (domain, op) not in known} <= others


@pytest.mark.parametrize("name", ["coreml", "openvino", "ort_cuda", "tensorrt"])
def test_types_are_spelt_as_onnx_does_and_versions_do_not_overlap(name: str) -> None:
    spelt = {kind.lower() for kind in set(onnx.TensorProto.DataType.keys())}
    for kernels in read_table(name).operators.values():
        assert all(one.types <= spelt for one in kernels)
        ranges = sorted(entry for one in kernels for entry in one.versions)
        assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_reasons() -> None:
    table = Table(
        "It",
        "do without",
        (9, 20),
        {
            ("", "MaxPool"): (
                Kernels(frozenset(["float"]), ((1, 7), (8, 11))),
                Kernels(frozenset(["float", "float16"]), ((12, 12),)),
            ),
            ("m", "Custom"): (Kernels(frozenset(), ()),),
        },
    )

    def reason(op: str, opset: int, kind: str = "float", domain: str = "") -> str | None:
        call = f"{domain}.{op}" if domain else op
        text = f"({kind}[1, 2, 8, 8] x) => ({kind}[1, 2, 7, 7] y) {{ y = {call}<kernel_shape = [2, 2]>(x) }}"
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "m" : 3]> g {text}')
        (node,) = seen_nodes(model)
        lack = table.lacks(node)
        return lack and f"{lack.reason}; {lack.next_step}"

    assert reason("MaxPool", 11) is None
    assert reason("MaxPool", 12, "float16") is None
    assert reason("MaxPool", 11, "float16") == "It has no MaxPool of float16; it takes float: convert the model's type"
    assert reason("Custom", 11, domain="m") is None
    assert reason("Other", 11, domain="m") == "It has no m.Other; do without"
    assert reason("LpPool", 11) == "It has no LpPool; do without"
    assert reason("MaxPool", 8) == "It takes opset 9 to 20; export with one of these"
    one_kernel = Table("It", "", None, {("", "MaxPool"): (Kernels(frozenset(), ((8, 11),)),)})
    (node,) = seen_nodes(
        build("(float[1, 2, 8, 8] x) => (float[] y) { y = MaxPool<kernel_shape = [2, 2]>(x) }", opset=22)
    )
    lack = one_kernel.lacks(node)
    assert lack is not None
    assert lack.reason == "It has no MaxPool of version 22"
    assert lack.next_step == "export with an older opset: it has MaxPool to version 11"


def test_an_unknown_type_is_not_held_against_a_node() -> None:
    (node, *_) = seen_nodes(
        onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 13]> g (x) => (y) { y = Relu(x) }')
    )
    assert node.type(0) == ""
    assert read_table("ort_cuda").lacks(node) is None


def test_kernels_take_every_version_where_none_is_said() -> None:
    assert Kernels(frozenset(), ()).take_version(99)
    assert Kernels(frozenset(), ((1, 6),)).take_version(0)  # ONNX does not define it: nothing to hold against it
    assert [Kernels(frozenset(), ((2, 6), (7, 7))).take_version(v) for v in (1, 2, 6, 7, 8)] == [
        False, True, True, True, False,
    ]  # fmt: skip
