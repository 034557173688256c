"""What keeps a network from being exact under circular shifts."""

from __future__ import annotations

from small_nets import parse

from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.verification import verify
from aarewrite.verification.preconditions import find_violations


def test_zero_padding_and_odd_sizes_are_named():
    net = parse("""
    g (float[N,1,15,15] x) => (float[N,2] y)
    <float[2,1,3,3] w = {1, 2, 1, 2, 4, 2, 1, 2, 1, 0, 1, 0, 1, -4, 1, 0, 1, 0}> {
        a = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, w)
        b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        c = GlobalAveragePool(b)
        y = Flatten(c)
    }""")
    for name, node in zip(("conv", "pool", "mean", "out"), net.graph.node, strict=True):
        node.name = name
    report = verify(net, "synthetic:2", protocols=("circular",))
    reasons = {(v.node, v.reason) for v in report.circular[0].violations}
    assert ("conv", "pads with zeros (1, 1, 1, 1)") in reasons
    assert ("pool", "size 15 does not divide by stride 2") in reasons
    assert not report.circular[0].exact_possible


def test_a_filter_that_is_no_convolution_is_named():
    net = parse("""
    g (float[N,1,4,4] x) => (float[N,1] y) <float[4,2] half = {1, 0, 0, 0, 0, 1, 0, 0}> {
        a = MatMul(x, half)
        b = GlobalAveragePool(a)
        y = Flatten(b)
    }""")
    net.graph.node[0].name = "low"
    net.metadata_props.add(key="aarewrite.blurs", value='{"low": {"samples_by": [1, 2]}}')
    found = find_violations(open_graph(Model(net), (4, 4)))
    assert [(v.node, v.reason) for v in found] == [("low", "a filter that does not wrap around the border")]
