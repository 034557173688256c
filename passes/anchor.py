"""A phase anchor in front: the image's own content chooses the phase of the model's grid that samples it.

A model of total stride S tells S x S positions of its grid apart. Here the strongest corner of the image is laid on a
fixed one of them, and the untouched model runs on what it then sees: where the image moves by whole pixels, its corner
moves along, and the model gets the same pixels. Source: Harris & Stephens 1988 for the corner; polyphase anchoring
(Ding et al.) and frames of size one (Puny et al.) for the idea.

With g the grey image, gx = g[x+1] - g[x-1] and gy alike: A, B and C are gx gx, gy gy and gx gy behind two 5 x 5 means,
nearly a Gaussian of sigma 2. H = AB - C^2 - 0.04 (A + B)^2 in float32, and p is the place of the largest H, 8 px or
more from the border, that is no smaller than its eight neighbours (so that the flank of a corner beyond the border
is none; the first of several). Wide: the input grows to N = n + S - 1, the origin is o = p mod S along each axis,
the model runs on image[o : o + n]. In place: N = n, and the image is moved by d = ((p - n//2 + S//2) mod S) - S//2,
its border reflected; that is the wide form with the image reflected to n + S - 1 px and o = d + S//2. Each image of a
batch has its own origin. Where there is no corner (flat images, edges alone, NaN) it is the middle one, (S - 1)//2,
and in place the image is not moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx.parser

from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Array, Node, Tensor
from aarewrite.options import option, whole
from aarewrite.passes.contract import Frames, Record, StagePass
from aarewrite.passes.images import Image, images
from aarewrite.sites.reading import Reading

FORMS = ("wide", "in-place")
FLOAT, INT64 = 1, 7
MARGIN = 8  # px at the border where no corner is looked for: differences, means and neighbours take 1 + 4 + 1
REACH = 4  # px that the two means take off each side
GREY = (0.299, 0.587, 0.114)  # BT.601; for images in BGR they say other things of red and blue, which is no matter
HARRIS = 0.04
OLDEST = {"wide": (10, "Slice with computed bounds"), "in-place": (11, "Pad of bytes and floats alike")}
OLDEST_REDUCTION_WITH_INPUTS = {"ReduceMax": 18, "ReduceSum": 13}


@dataclass(frozen=True)
class Asked:
    """What a recipe may say of it.

    Attributes:
        anchor: Its form, "" for none.
        anchor_origin: Whether the origin is an output.
        anchor_phases: Among how many origins it chooses along an axis, at least; 0: the total stride. More make the
            view jump less often: once in so many pixels.
    """

    anchor: str = option("", choices=("", *FORMS))
    anchor_origin: bool = False
    anchor_phases: int = whole(0)


@dataclass(frozen=True)
class PhaseAnchor(StagePass):
    """The image `sites[0]` seen from an origin that its content chooses.

    Attributes:
        form: "wide" or "in-place".
        phases: Among how many origins, per axis of the input; 1 where nothing is chosen.
        origin: Whether the origin is an output: the position (y, x) in the input of the model's first pixel.
    """

    form: str = option("wide", choices=FORMS)
    phases: tuple[int, ...] = option(
        (), holds=lambda phases: all(s > 0 for s in phases), says="a list of whole numbers above 0"
    )
    origin: bool = False

    name = "anchor"
    key = "aarewrite.anchor"
    Options = Asked
    at_sites = False
    refusal = "no anchor"
    nowhere = "no input is an image"
    again = "an earlier run put one in front"

    @classmethod
    def wanted(cls, reading: Reading, asked: Asked) -> Self | None:
        """An anchor in front of the image, or of all that there are: none can have it alone."""
        if not asked.anchor:
            return None
        found = [image for image in images(reading) if len(image.axes) > 1]
        phases = _phases(reading, found[0], asked.anchor_phases) if found else ()
        return cls(tuple(image.tensor.name for image in found), asked.anchor, phases, asked.anchor_origin)

    def check(self, reading: Reading) -> None:
        """The image, of known size, is large enough, and the model samples it at known strides."""
        self._image(reading)

    @property
    def frames(self) -> Frames:
        """The wide form takes S - 1 px more; what the original sees lies in their middle."""
        grows = self.form == "wide"
        return {self.sites[0]: [((s - 1) // 2, s // 2) if grows else (0, 0) for s in self.phases]}

    @property
    def more_outputs(self) -> int:
        """The origin."""
        return int(self.origin)

    def notes(self, reading: Reading) -> tuple[str, ...]:
        """What the model takes, and what its outputs mean."""
        image = self._image(reading)
        sizes = [image.type.dim(axis) or 0 for axis in image.axes]
        phases = [self.phases[axis] for axis in image.axes]
        seen = "x".join(map(str, sizes))
        taken = "x".join(str(size + s - 1) for size, s in zip(sizes, phases, strict=True))
        how = f"takes {taken} px, of which the model sees {seen}" if self.form == "wide" else f"takes {seen} px, moved"
        paste = "" if self.origin else "; positions in its outputs count from there: --anchor-origin tells it"
        chosen = " x ".join(map(str, phases))
        what = f"{image.tensor.name} ({image.layout}) {how} from one of {chosen} origins, which its content chooses"
        return (f"{what}{paste}",)

    def apply(self, reading: Reading, twin: bool) -> tuple[Reading, Record]:
        """Put it in front of all that reads the image; in the twin every origin is the default one."""
        editor, main = reading.editor, reading.main
        image, first = self._image(reading), main.nodes[0]
        readers = [
            (node, k)
            for scope in editor.scopes
            if scope.root is main
            for node in scope.nodes
            for k, tensor in enumerate(node.inputs)
            if tensor.name == image.tensor.name
        ]
        batch = reading.model.proto.graph.input[_index(reading, image)].type.tensor_type.shape.dim[0]
        sizes = [image.type.dim(axis) or 0 if axis else 0 for axis in range(len(image.layout))]
        work = _Graph(editor, main, image, self.form == "wide", self.phases)
        seen, origin = work.build(batch.dim_value == 1, twin, self.origin)
        editor.insert_before(main, first, work.nodes)
        for node, k in readers:
            editor.set_input(node, k, seen)
        grown = [size + sum(more) for size, more in zip(sizes, self.frames[image.tensor.name], strict=True)]
        editor.resize_input(image.tensor, grown)
        if origin is not None:
            editor.add_output(origin, INT64, [batch.dim_value or batch.dim_param or None, len(image.axes)])
        record = {"input": image.tensor.name, "form": self.form, "phases": self.phases}
        return reading, record | {"origin": origin.name if origin is not None else None}

    def _image(self, reading: Reading) -> Image:
        """The input, held against what is asked; errors as of `check`."""
        found = [image for image in images(reading) if len(image.axes) > 1]
        names = [image.tensor.name for image in found]
        if len(names) > 1:
            raise CannotHandle(f"several inputs are images ({', '.join(names)})", "leave the anchor out")
        if list(self.sites) != names:
            raise CannotHandle(f"{self.sites[0]}: no input that is an image", f"name {', '.join(names) or 'none'}")
        image, (name,) = found[0], names
        sizes, channels = [image.type.dim(axis) for axis in image.axes], image.type.dim(image.layout.index("c"))
        oldest, what = OLDEST[self.form]
        if len(sizes) != 2:
            raise CannotHandle(f"{name} ({image.layout}): a corner is looked for in flat images alone")
        if channels not in (1, len(GREY)):
            raise CannotHandle(f"{name}: {channels or 'unknown'} channels make no grey image, 1 or 3 do")
        if None in sizes:
            raise CannotHandle(f"{name}: its size is open, give it with --input {name}:{_example(image)}")
        if reading.main.opset < oldest:
            raise CannotHandle(f"{name}: {what} needs opset {oldest}, convert the model first")
        spatial = [self.phases[axis] for axis in image.axes] if len(self.phases) == len(image.layout) else []
        if max(spatial, default=1) < 2 or math.prod(self.phases) != math.prod(spatial):
            raise CannotHandle(f"{name} ({image.layout}): phases {list(self.phases)}: no strides that are known")
        for size, s in zip(sizes, spatial, strict=True):
            taken = (size or 0) + (s - 1 if self.form == "wide" else 0)
            if taken <= 2 * MARGIN or (size or 0) <= s // 2:
                raise CannotHandle(f"{name}: {size} px are too few to look for a corner {MARGIN} px from the border")
        return image


def _example(image: Image) -> str:
    return "x".join({"n": "1", "c": str(image.type.dim(k) or 3)}.get(c, "224") for k, c in enumerate(image.layout))


def _index(reading: Reading, image: Image) -> int:
    """The input's place in the model's file."""
    return [value.name for value in reading.model.proto.graph.input].index(image.tensor.name)


def _phases(reading: Reading, image: Image, least: int) -> tuple[int, ...]:
    """The total stride along each axis of the image: the least common multiple of those of all maps; where more are
    wanted, a multiple of it."""
    rank = len(image.axes)
    reached = [
        [s * before for s, before in zip(site.strides, site.stride_so_far, strict=True)]
        for site in (place.site for place in reading.located)
        if site.stride_so_far is not None and len(site.strides) == len(site.stride_so_far) == rank
    ]
    for source in reading.sources:
        ends, before = (source.input_size, source.output_size), source.stride_so_far
        if before is not None and all(len(one) == rank and all(one) for one in (*ends, before)):
            ratios = [round((a or 0) / (b or 1)) or 1 for a, b in zip(*ends, strict=True)]
            reached.append([r * s for r, s in zip(ratios, before, strict=True)])
    total = iter([s * -(-least // s) or s for s in map(math.lcm, *reached)] if reached else [1] * rank)
    return tuple(next(total) if letter not in "nc" else 1 for letter in image.layout)


class _Graph:
    """Makes the nodes that find the origin of an image and show the model what it sees from there."""

    def __init__(self, editor: GraphEditor, scope: Scope, image: Image, wide: bool, phases: Sequence[int]) -> None:
        self.editor, self.scope, self.image, self.wide = editor, scope, image, wide
        self.strides = [phases[axis] for axis in image.axes]
        self.seen = [image.type.dim(axis) or 0 for axis in image.axes]
        self.sizes = [n + s - 1 if wide else n for n, s in zip(self.seen, self.strides, strict=True)]
        self.nodes: list[Node] = []

    def build(self, single: bool, twin: bool, told: bool) -> tuple[Tensor, Tensor | None]:
        """What the model sees, and, where it is to be told, the position (y, x) of its first pixel in the input;
        `single`: the batch is 1."""
        corner, found = self._corner()
        steps = zip(self.seen, self.strides, strict=True)
        moved = [0, 0] if self.wide else [s // 2 - n // 2 for n, s in steps]
        default = [(s - 1) // 2 if self.wide else s // 2 for s in self.strides]
        begin = [(MARGIN + m) % s for m, s in zip(moved, self.strides, strict=True)]
        shifted = self.add("Add", [corner, self.whole(begin)])
        chosen = self.add("Mod", [shifted, self.whole(self.strides)])
        usual = self.whole([default])
        origin = self.add("Where", [found, usual if twin else chosen, usual], "origin" if told and self.wide else "")
        whole = self.image.tensor if self.wide else self._reflected()
        seen = self._cut(whole, origin) if single else self._cut_each(whole, origin)
        if told and not self.wide:
            origin = self.add("Sub", [origin, self.whole([s // 2 for s in self.strides])], "origin")
        return seen, origin if told else None

    def _corner(self) -> tuple[Tensor, Tensor]:
        """Row and column of the strongest corner, `MARGIN` px less, (N, 2), and whether there is one, (N, 1)."""
        grey = self._grey()
        low, high = MARGIN - REACH - 1, [size - MARGIN + REACH + 1 for size in self.sizes]
        right, left, below, above = (
            self._slice(grey, [low + dy, low + dx], [high[0] + dy, high[1] + dx], [2, 3])
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
        )
        gx, gy = self.add("Sub", [right, left]), self.add("Sub", [below, above])
        mean = self.add("Concat", [self.add("Mul", pair) for pair in ([gx, gx], [gy, gy], [gx, gy])], axis=1)
        for _ in range(2):
            mean = self.add("AveragePool", [mean], kernel_shape=[REACH + 1] * 2)
        a, b, c = (self._slice(mean, [k], [k + 1], [1]) for k in range(3))
        trace, share = self.add("Add", [a, b]), self._constant(np.array(HARRIS), FLOAT)
        det = self.add("Sub", [self.add("Mul", [a, b]), self.add("Mul", [c, c])])
        harris = self.add("Sub", [det, self.add("Mul", [self.add("Mul", [trace, trace]), share])])
        height, width = (size - 2 * MARGIN for size in self.sizes)
        inner = self._slice(harris, [1, 1], [1 + height, 1 + width], [2, 3])
        flank = self.add("Less", [inner, self.add("MaxPool", [harris], kernel_shape=[3, 3])])
        is_peak = self.add("Cast", [self.add("Not", [flank])], to=FLOAT)
        flat = self.add("Reshape", [self.add("Mul", [inner, is_peak]), self.whole([-1, height * width])])
        place, columns = self.add("ArgMax", [flat], axis=1, keepdims=1), self.whole(width)
        corner = self.add("Concat", [self.add(op, [place, columns]) for op in ("Div", "Mod")], axis=1)
        # 0, and NaN where any H is NaN or infinite: nothing is greater than that
        nothing = self.add("Mul", [self._reduce("ReduceSum", flat), self._constant(np.array(0), FLOAT)])
        return corner, self.add("Greater", [self._reduce("ReduceMax", flat), nothing])

    def _grey(self) -> Tensor:
        """The grey image in float32, (N, 1, H, W)."""
        grey, (height, width) = self.image.tensor, self.sizes
        channels = self.image.type.dim(self.image.layout.index("c")) or 1
        if self.image.type.dtype != FLOAT:
            grey = self.add("Cast", [grey], to=FLOAT)
        if channels > 1 and self.image.layout[1] == "c":
            flat = self.add("Reshape", [grey, self.whole([-1, channels, height * width])])
            grey = self.add("MatMul", [self._constant(np.array([GREY]), FLOAT), flat])
        elif channels > 1:
            grey = self.add("MatMul", [grey, self._constant(np.array([GREY]).T, FLOAT)])
        return self.add("Reshape", [grey, self.whole([-1, 1, height, width])])

    def _reflected(self) -> Tensor:
        """The image with as much of it reflected around it as it may move."""
        pads = [0] * 2 * len(self.image.layout)
        for axis, s in zip(self.image.axes, self.strides, strict=True):
            pads[axis], pads[axis + len(self.image.layout)] = s // 2, (s - 1) // 2
        return self.add("Pad", [self.image.tensor, self.whole(pads)], mode="reflect")

    def _cut(self, whole: Tensor, origin: Tensor) -> Tensor:
        """What lies behind the origin of one image; the Reshape says its size to all that infer shapes."""
        begin = self.add("Reshape", [origin, self.whole([2])])
        end = self.add("Add", [begin, self.whole(self.seen)])
        cut = self.add("Slice", [whole, begin, end, self.whole(self.image.axes)])
        return self.add("Reshape", [cut, self.whole(self._shape(self.seen))])

    def _cut_each(self, whole: Tensor, origin: Tensor) -> Tensor:
        """The same for each image of a batch."""
        names = {key: self.editor.fresh_name(f"anchor_{key}") for key in BODY_NAMES}
        padded = [n + s - 1 for n, s in zip(self.seen, self.strides, strict=True)]
        text = BODY.format(
            **names,
            type=onnx.TensorProto.DataType.Name(self.image.type.dtype).lower(),
            whole_dims=_listed(self._shape(padded)[1:]),
            seen_dims=_listed(self._shape(self.seen)[1:]),
            size=_listed(self.seen),
            axes=_listed([axis - 1 for axis in self.image.axes]),
        )
        body = onnx.parser.parse_graph(text)
        return self.add("Scan", [whole, origin], num_scan_inputs=2, body=body)

    def _shape(self, size: Sequence[int]) -> list[int]:
        """The shape of one image of a size."""
        spatial, channels = iter(size), self.image.type.dim(self.image.layout.index("c")) or 1
        return [{"n": 1, "c": channels}.get(letter) or next(spatial) for letter in self.image.layout]

    def _slice(self, tensor: Tensor, begin: Sequence[int], end: Sequence[int], axes: Sequence[int]) -> Tensor:
        return self.add("Slice", [tensor, *map(self.whole, (begin, end, axes))])

    def _reduce(self, op: str, tensor: Tensor) -> Tensor:
        """A reduction over axis 1."""
        if self.scope.opset < OLDEST_REDUCTION_WITH_INPUTS[op]:
            return self.add(op, [tensor], axes=[1])
        return self.add(op, [tensor, self.whole([1])])

    def whole(self, value: Sequence[int] | Sequence[Sequence[int]] | int) -> Tensor:
        """A constant of whole numbers."""
        return self._constant(np.array(value), INT64)

    def _constant(self, value: Array, dtype: int) -> Tensor:
        return self.editor.constant(self.scope, f"{self.image.tensor.name}/anchor/constant", value, dtype)

    def add(self, op: str, inputs: Sequence[Tensor], called: str = "", **attributes: object) -> Tensor:
        """A new node's output."""
        name = f"{self.image.tensor.name}/anchor"
        target = self.editor.variable(called or f"{name}/{op.lower()}")
        self.nodes.append(self.editor.node(op, f"{name}/{op}", inputs, [target], **attributes))
        return target


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


BODY_NAMES = ("body", "image", "begin", "lengths", "end", "axes_of", "part")
BODY = """{body} ({type}[{whole_dims}] {image}, int64[2] {begin}) => ({type}[{seen_dims}] {part}) {{
    {lengths} = Constant<value = int64[2] {{{size}}}>()
    {end} = Add({begin}, {lengths})
    {axes_of} = Constant<value = int64[2] {{{axes}}}>()
    {part} = Slice({image}, {begin}, {end}, {axes_of})
}}"""
