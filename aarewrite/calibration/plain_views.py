"""The yardstick for what costs as much as a second run: two plain views of the untouched model, which need no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from aarewrite.errors import AarewriteError
from aarewrite.rewriting.pipeline import Options, rewrite

DEAR = 1.5  # cost from which a result is held against them
MOVES = ("0,0 1,1", "-5,-5 6,6")  # px


def plain_views(
    original: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, onnx.ModelProto]:
    """Both pairs of views by their moves; without those that this model cannot be given."""
    found = {}
    for moves in MOVES:
        options = Options(skip=("*",), views=moves, input_shapes=input_shapes)
        try:
            result = rewrite(original, verify=False, **options)
        except AarewriteError:
            continue
        if result.changed:
            found[moves] = result.model
    return found
