"""The stream through a model: its axis, every tensor's track, steps that fit."""

from fractions import Fraction

import pytest
from nets import flow_of, largest_difference, written
from reference import build, weight

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.streaming.flow import sizes, volume
from aarewrite.streaming.tracks import Track


def strided(shape: str = "N, 2, 64"):
    return build(
        f"""(float[{shape}] x) => (float[] y) {{
        [first] a = Conv<pads = [1, 1], strides = [2]>(x, w)
        b = Relu(a)
        [second] c = MaxPool<kernel_shape = [3], strides = [3]>(b)
        [mean] y = GlobalAveragePool(c)
    }}""",
        w=weight(4, 2, 3),
    )


def test_tracks_and_reasons() -> None:
    flow = flow_of(strided())
    assert (flow.input, flow.inputs, flow.window) == ("x", {"x": 2}, 64)
    assert flow.tracks["b"] == Track(2, Fraction(2), 1, 0, 32)
    assert flow.tracks["c"] == Track(2, Fraction(6), 1, 0, 10)
    assert [part.name for part in flow.parts if part.rule is None] == ["mean"]
    assert flow.sized == {"x", "a", "b", "c"}
    assert volume(flow.source, "a") == 128
    assert sizes(flow, "a", 5) == ["N", 4, 5]


def test_a_step_that_does_not_divide_names_the_node_and_the_nearest_that_do() -> None:
    flow = flow_of(strided())
    flow.check_step(6)
    with pytest.raises(UsageError, match=r"node 'first' \(Conv\) makes one value of 2 samples, and 7 is no multiple"):
        flow.check_step(7)
    with pytest.raises(UsageError, match=r"node 'second' \(MaxPool\).*the nearest steps that work are 6, 12, 18, 24$"):
        flow.check_step(8)
    with pytest.raises(UsageError, match="--step 65: not within the window of 64"):
        flow.check_step(65)


def test_where_nothing_could_be_kept_nothing_has_to_divide() -> None:
    flow = flow_of(strided())
    assert flow.obstacle(56) is None  # no multiple of 6, but 1 + 56 / 6 reach over the last 10
    assert flow.obstacle(50) is not None


def test_the_axis_is_the_longest_of_space_or_what_is_asked_for() -> None:
    image = build("(float[N, 3, 20, 30] x) => (float[] y) { y = Relu(x) }")
    assert flow_of(image).inputs == {"x": 3}
    assert flow_of(image, 2).inputs == flow_of(image, "-2").inputs == {"x": 2}
    assert flow_of(build("(float[1, 49, 10, 1] x) => (float[] y) { y = Relu(x) }")).inputs == {"x": 1}
    with pytest.raises(UsageError, match="--axis time: no input has such an axis; it is one of N, 0 to 3"):
        flow_of(image, "time")
    with pytest.raises(CannotHandle, match="no input has an axis of space or time"):
        flow_of(build("(float s) => (float[] y) { y = Relu(s) }"))


def test_an_open_window_is_asked_for_and_may_be_named() -> None:
    model = strided("N, 2, time")
    with pytest.raises(UsageError, match=r"give it with --input x:SHAPE, NxNx2xN|give it with --input x:SHAPE, Nx2xN"):
        flow_of(model)
    flow = flow_of(model, None, x=(1, 2, 64))
    assert flow.window == 64
    named = flow_of(build("(float[3, 2, 8] z, float[time, 2, 64] x) => (float[] y) { y = Relu(x) }"), "time",
                    x=(32, 2, 64))  # fmt: skip
    assert named.inputs == {"x": 0}


def test_inputs_of_one_window_are_streamed_together_and_others_are_not() -> None:
    model = build(
        """(float[N, 2, 64] x, float[N, 3, 64] z, float[N, 4, 1] gain) => (float[] y, float[] v) {
        a = Conv<pads = [1, 1]>(x, w)
        b = Conv<pads = [2, 2]>(z, u)
        c = Add(a, b)
        v = ReduceMean<axes = [2]>(c)
        d = Mul(c, gain)
        y = GlobalAveragePool(d)
    }""",
        w=weight(4, 2, 3), u=weight(4, 3, 5),
    )  # fmt: skip
    flow = flow_of(model)
    assert flow.inputs == {"x": 2, "z": 2}
    assert next(p.fit for p in flow.parts if p.node.op_type == "Mul") == (
        "an operand depends on the whole window or on another input"
    )
    streaming, work = written(flow, 8)
    assert work < 0.3
    assert largest_difference(model, streaming, gain=weight(2, 4, 1)) < 1e-6
