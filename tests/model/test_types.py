"""Typed attributes of GraphSurgeon nodes."""

from __future__ import annotations

import onnx.parser
import pytest

from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.types import Node, floats, in_default_domain, integer, ints, is_parameter, text

MODEL = """
<ir_version: 8, opset_import: ["" : 17, "custom" : 1]>
net (float[1, 3, 8, 8] x) => (float[1, 3, 4, 4] y) {
    a = MaxPool <kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID"> (x)
    b = custom.Pool <strides = 2, group = "many", scales = [0.5, 2.0]> (a)
    y = custom.Halve <n = 2> (b)
}
<domain: "custom", opset_import: ["" : 17]>
Halve <n> (x) => (y) { y = Concat <axis: int = @n> (x) }
"""


@pytest.fixture
def nodes() -> dict[str, Node]:
    editor = GraphEditor(load(onnx.parser.parse_model(MODEL)))
    return {node.op: node for scope in editor.scopes for node in scope.nodes}


def test_an_attribute_is_read_by_its_type(nodes: dict[str, Node]) -> None:
    pool, custom = nodes["MaxPool"], nodes["Pool"]
    assert ints(pool, "strides") == [2, 2]
    assert text(pool, "auto_pad", "NOTSET") == "VALID"
    assert floats(custom, "scales") == [0.5, 2.0]
    assert integer(custom, "strides") == 2


def test_what_is_absent_or_of_another_type_reads_as_the_default(nodes: dict[str, Node]) -> None:
    pool, custom = nodes["MaxPool"], nodes["Pool"]
    assert ints(pool, "dilations", [1, 1]) == [1, 1]
    assert ints(custom, "strides") == []  # one number where ONNX has a list
    assert integer(custom, "group", 1) == 1
    assert text(pool, "strides", "NOTSET") == "NOTSET"


def test_a_functions_parameter_reads_as_the_default(nodes: dict[str, Node]) -> None:
    concat = nodes["Concat"]
    assert is_parameter(concat, "axis")
    assert integer(concat, "axis", 7) == 7


def test_the_domain_of_onnx_itself_has_three_spellings(nodes: dict[str, Node]) -> None:
    assert in_default_domain(nodes["MaxPool"])
    assert not in_default_domain(nodes["Pool"])
    for domain in (None, "", "ai.onnx"):
        nodes["Pool"].domain = domain
        assert in_default_domain(nodes["Pool"])


def test_the_list_that_is_read_is_a_copy(nodes: dict[str, Node]) -> None:
    ints(nodes["MaxPool"], "strides").append(9)
    assert nodes["MaxPool"].attrs["strides"] == [2, 2]
