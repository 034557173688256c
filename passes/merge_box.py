"""AveragePool and blur -> one depthwise Conv, where that is exact.

An average over a window that counts its zero padding is a convolution with a box. Two stacked depthwise filters
are one filter with the convolved kernel, as long as nothing is padded in between:

    AveragePool(k, 1) -> blur(f, s) without pads   =   Conv(box_k * taps_f, s) with the pooling's zero pads
    blur(f, 1) -> AveragePool(k, s) without pads   =   Conv(box_k * taps_f, s) with the blur's pads

With pads in between (reflect of an averaged map, say) the border would change, so such a pair stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aarewrite.filters import Blur, outer
from aarewrite.model.graph import GraphEditor
from aarewrite.model.types import ints
from aarewrite.passes.contract import GraphPass, Rewritten
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import FLOATS


class MergeBox(GraphPass):
    """AveragePool and blur -> one depthwise Conv."""

    def apply(self, reading: Reading, rewritten: Sequence[Rewritten]) -> int:
        """Merge the pooling of every rewritten AveragePool with its blur where that is exact."""
        merged = 0
        for one in rewritten:
            if name := _merged(reading.editor, one):
                one.filter = name
                merged += 1
        return merged


def _merged(editor: GraphEditor, one: Rewritten) -> str:
    """Merge one pooling with its blur; returns the name of the filter that both are now, "" where it is not exact."""
    site, scope, pool = one.located.site, one.located.scope, one.located.node
    inserted = one.match.blur
    if site.op != "AveragePool" or not pool.outputs or not isinstance(inserted, Blur) or site.dtype not in FLOATS:
        return ""
    blur = next((node for node in scope.nodes if node.name == one.filter), None)
    if blur is None or blur.op != "Conv":
        return ""
    written = site.window
    if any(d > 1 for d in written.dilations):
        return ""
    pool_pads, blur_pads = ints(pool, "pads"), ints(blur, "pads")
    box_is_convolution = not any(pool_pads) or site.count_include_pad
    if pool.outputs[0] is blur.inputs[0] and len(pool.outputs[0].outputs) == 1:
        first, last, between = pool, blur, blur_pads
    elif blur.outputs[0] is pool.inputs[0] and written.auto_pad == "NOTSET" and not written.ceil_mode:
        first, last, between = blur, pool, pool_pads
    else:
        return ""
    if any(between) or not box_is_convolution:
        return ""
    assert site.channels is not None
    box = [np.full(k, 1 / k) for k in site.window.kernel]
    kernel = outer(np.convolve(b, t) for b, t in zip(box, inserted.axis_taps(), strict=True))
    weight = np.broadcast_to(kernel, (site.channels, 1, *kernel.shape))
    source, target = first.inputs[0], last.outputs[0]
    constant = editor.constant(scope, f"{one.filter}/box", np.asarray(weight), site.dtype)
    merged = editor.node(
        "Conv", f"{site.node}/blur/Box", [source, constant], [], group=site.channels,
        kernel_shape=list(kernel.shape), dilations=[1] * kernel.ndim, strides=list(site.strides),
        pads=ints(first, "pads", [0] * 2 * kernel.ndim),
    )  # fmt: skip
    editor.replace(scope, [last, first], merged, target)
    return merged.name
