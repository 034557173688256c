"""What is asked of a node."""

import numpy as np
from nets import flow_of
from reference import build, weight

from aarewrite.streaming.rules import Ask, Rule, meeting, set_attribute
from aarewrite.streaming.tracks import Track


def ask(body: str, **constants) -> Ask:
    flow = flow_of(build(f"(float[1, 2, 32] x) => (float[] y) {{ {body} }}", **constants))
    return Ask(flow.source, flow.tracks, flow.source.nodes[-1])


def test_numbers_are_attributes_or_inputs() -> None:
    assert ask("y = Unsqueeze(x, a)", a=np.array([0, 3])).numbers("axes", 1) == [0, 3]
    found = ask("y = ReduceMean<axes = [1]>(x)")
    assert found.numbers("axes", 1) == [1]
    assert found.numbers("others", 1) is None
    assert found.text("mode", "none") == "none"
    assert found.dims(0) == (1, 2, 32)
    assert found.out_dims() == (1, 1, 32)


def test_operands_meet_on_the_axis_counted_from_the_right() -> None:
    found = meeting(ask("y = Add(c, x)", c=weight(3, 1, 2, 1)))
    assert isinstance(found, tuple)
    assert (found[0].axis, found[1]) == (3, 4)
    assert meeting(ask("y = Mul(x, c)", c=weight(1, 32))) == "a constant operand differs along the window"
    other = ask("t = Transpose<perm = [0, 2, 1]>(x) y = Add(t, r)", r=weight(1))
    assert other.first.axis == 1


def test_a_plain_rule_maps_index_to_index() -> None:
    plain = Rule((0,), Track(2, 1, 0, 0, 9))
    assert plain.made((2, 4)) == plain.reads((2, 4)) == (2, 4)


def test_attributes_are_set_and_removed() -> None:
    node = ask("y = Conv<pads = [1, 1], strides = [2]>(x, w)", w=weight(2, 2, 3)).node
    set_attribute(node, "pads", [0, 1])
    set_attribute(node, "strides", None)
    assert {a.name: list(a.ints) for a in node.attribute} == {"pads": [0, 1]}
