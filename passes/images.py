"""The inputs that are images or signals: where the stages that begin at an input of the model begin."""

from __future__ import annotations

from typing import NamedTuple

from aarewrite.model.runner import likely_layout
from aarewrite.model.shapes import TensorType
from aarewrite.model.types import Tensor
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import FLOATS

INTEGERS = frozenset((2, 3, 6, 7))  # those that Pad moves in ONNX Runtime: UINT8, INT8, INT32, INT64


class Image(NamedTuple):
    """An input that can be moved."""

    tensor: Tensor
    type: TensorType
    layout: str

    @property
    def axes(self) -> list[int]:
        """The spatial ones."""
        return [axis for axis, letter in enumerate(self.layout) if letter not in "nc"]


def images(reading: Reading) -> list[Image]:
    """The inputs that can be moved: of those of the highest rank, all."""
    found = []
    for tensor in reading.main.graph.inputs:
        kind = reading.shapes.of(reading.main, tensor)
        layout = "" if reading.editor.is_constant(tensor) else likely_layout(kind.dims or ())
        if layout and (kind.dtype in FLOATS or (kind.dtype in INTEGERS and len(layout) > 2)):
            found.append(Image(tensor, kind, layout))
    highest = max((len(image.layout) for image in found), default=0)
    return [image for image in found if len(image.layout) == highest]
