"""What keeps a network from being exact under circular shifts."""

from __future__ import annotations

from small_nets import parse

from aarewrite.verification import verify


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
