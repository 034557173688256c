"""Plain views: the network runs on copies of the image moved by a few pixels, with the same weights, and their outputs
are averaged. It costs a whole run per view and needs no data: the yardstick for everything that costs as much.

A moved copy is `view[y, x] = image[y - dy, x - dx]`, the border reflected (Pad, then Slice). What the image reaches is
copied per view, so that a batch size baked into the graph stays right. Logits are averaged as they are, in front of a
last Softmax or Sigmoid; probabilities behind it. Where a model ends in logits, the probabilities' mean is written as
logits again, log(mean(p)) plus the mean of the views' own log-sum-exp: its softmax is that mean, and with nothing moved
it is what the original says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model, recorded
from aarewrite.model.shapes import TensorType
from aarewrite.model.types import Node, Tensor, in_default_domain
from aarewrite.options import option
from aarewrite.passes.contract import Record, StagePass
from aarewrite.passes.images import Image, images
from aarewrite.sites.find import node_names
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import FLOATS, QUANTISATION
from aarewrite.sites.site import SITE_KINDS

Shifts = tuple[tuple[int, ...], ...]
ALONG_EVERY_AXIS = {"2": (0, 1), "4": (0, 1, -5, 6)}  # px; an odd distance of about a third of each stride's period
OF = ("logits", "probabilities")
DOUBLE, INT64 = 11, 7
OLDEST_SLICE_WITH_INPUTS = 10  # before it, Slice has attributes
OLDEST_PAD_WITH_INPUTS = 11  # before it, Pad has attributes and moves floats alone
OLDEST_REDUCTION_WITH_INPUTS = 18
SQUASHING = frozenset(("Softmax", "LogSoftmax", "Sigmoid"))
OF_SIZES = frozenset(("Shape", "Size"))  # the same for a moved image
PICKING = frozenset(("NonMaxSuppression", "NonZero", "TopK", "Unique", "Compress"))  # what each view orders anew
# What may stand between a last Softmax and the output.
SAME_VALUES = QUANTISATION | {"Cast", "Concat", "Flatten", "Identity", "Mean", "Reshape", "Squeeze", "Unsqueeze"}


def _listed(text: str) -> Shifts:
    """The shifts of "0,0 1,1", () where it is no such text."""
    with contextlib.suppress(ValueError):
        found = tuple(tuple(map(int, word.split(","))) for word in text.split())
        return found if len({len(shift) for shift in found}) == 1 else ()
    return ()


@dataclass(frozen=True)
class Asked:
    """What a recipe may say of it."""

    views: str = option(
        "",
        holds=lambda text: text in ("", *ALONG_EVERY_AXIS) or len(_listed(text)) > 1,
        says='"", 2, 4, or two shifts or more like "0,0 1,1"',
    )
    views_of: str = option("logits", choices=OF)


class Tail(NamedTuple):
    """What squashes an output: its inputs, all nodes from there on by id, and the operator."""

    inputs: list[Tensor]
    nodes: dict[int, Node]
    op: str


class Work(NamedTuple):
    """What is copied and what is averaged."""

    image: Image
    nodes: list[Node]  # in graph order
    meetings: dict[str, tuple[Tensor, bool]]  # by name; whether their probabilities are averaged, not they
    where: list[str]  # for each output, in words


@dataclass(frozen=True)
class PlainViews(StagePass):
    """The image `sites[0]` moved by each of `shifts`, in pixels along each spatial axis, and what is averaged."""

    shifts: Shifts = ()
    of: str = option("logits", choices=OF)

    name = "views"
    key = "aarewrite.views"
    Options = Asked
    at_sites = False
    refusal = "no views"
    nowhere = "no input is an image or a signal that can be moved"
    again = "an earlier run averages views"

    @classmethod
    def wanted(cls, reading: Reading, asked: Asked) -> Self | None:
        """Views of the image, or of all that there are: none can be moved alone."""
        if not asked.views:
            return None
        found = images(reading)
        rank = len(found[0].axes) if found else 0
        preset = ALONG_EVERY_AXIS.get(asked.views)
        shifts = tuple((step,) * rank for step in preset) if preset else _listed(asked.views)
        return cls(tuple(image.tensor.name for image in found), shifts, asked.views_of)

    def check(self, reading: Reading) -> None:
        """The image can be moved, and every output that it reaches can be averaged."""
        self._work(reading)

    def notes(self, reading: Reading) -> tuple[str, ...]:
        """What is averaged where, and how large the image has to be."""
        image, _, _, where = self._work(reading)
        moved = ", ".join(f"({', '.join(map(str, shift))})" for shift in self.shifts)
        is_open = any(image.type.dim(axis) is None for axis in image.axes)
        size = f"; its sides must be longer than {self._furthest}" if is_open else ""
        what = f"views of {image.tensor.name} ({image.layout}), moved by {moved}, are averaged"
        return (f"{what}: {', '.join(where)}{size}",)

    def apply(self, reading: Reading, twin: bool) -> tuple[Reading, Record]:
        """Copy what the image reaches, once per further view, and average; in the twin nothing is moved. The record
        holds the names of the operators that sample and of their copies."""
        editor, main = reading.editor, reading.main
        image, nodes, meetings, _ = self._work(reading)
        shifts = ((0,) * len(image.axes),) * len(self.shifts) if twin else self.shifts
        moves = [_move(editor, main, image, shift, f"view{k}") for k, shift in enumerate(shifts, start=1)]
        views = [{image.tensor.name: made[-1].outputs[0] if made else image.tensor} for made in moves]
        editor.insert_before(main, nodes[0], [node for made in moves for node in made])
        copies: dict[int, list[Node]] = {}
        for node in nodes:
            made = copies[id(node)] = []
            for k, view in enumerate(views[1:], start=2):
                copy = editor.copy(node, f"view{k}", [view.get(tensor.name, tensor) for tensor in node.inputs])
                view |= {t.name: c for t, c in zip(node.outputs, copy.outputs, strict=True) if t.name}
                made.append(copy)
            editor.insert_after(main, node, made)
        _feed(editor, nodes, image.tensor, views[0][image.tensor.name])
        for tensor, soft in meetings.values():
            alone = editor.take_over(main, tensor, "view1")
            _feed(editor, nodes, tensor, alone)
            each = [alone, *(view[tensor.name] for view in views[1:])]
            average = _Average(editor, main, tensor.name, reading.shapes.of(main, tensor))
            (average.soft if soft else average.mean)(each, tensor)
            editor.insert_after(main, each[-1].inputs[0], average.nodes)
        names = node_names(editor)
        sampling = {names[id(a)]: [names[id(b)] for b in copies[id(a)]] for a in nodes if a.op in SITE_KINDS}
        return reading, {"input": image.tensor.name, "shifts": self.shifts, "of": self.of, "copies": sampling}

    @classmethod
    def earlier(cls, model: Model) -> dict[str, str]:
        """The operators that an earlier run computes once per view, and their copies."""
        copies = recorded(model, cls.key).get("copies")
        found = copies.items() if isinstance(copies, dict) else ()
        return {name: "an earlier run computes it once per view" for first, more in found for name in (first, *more)}

    @property
    def _furthest(self) -> int:
        return max(abs(step) for shift in self.shifts for step in shift)

    def _image(self, reading: Reading) -> Image:
        """The input that is moved, held against the shifts; errors as of `check`."""
        found = images(reading)
        names = [image.tensor.name for image in found]
        if len(names) > 1:
            raise CannotHandle(f"several inputs are images ({', '.join(names)})", "leave the views out")
        if list(self.sites) != names:
            raise CannotHandle(f"{self.sites[0]}: no input that is an image", f"name {', '.join(names) or 'none'}")
        image, (name,) = found[0], names
        if len(self.shifts) < 2 or any(len(shift) != len(image.axes) for shift in self.shifts):
            wanted = f"two shifts or more of {len(image.axes)} whole numbers each"
            raise CannotHandle(f"{name} ({image.layout}) takes {wanted}", "write them so")
        for k, axis in enumerate(image.axes):
            size, step = image.type.dim(axis), max(abs(shift[k]) for shift in self.shifts)
            if size is not None and size <= step:
                raise CannotHandle(f"{name}: {size} pixels are too few to reflect {step} of them", "move it less")
        if reading.main.opset < OLDEST_PAD_WITH_INPUTS and image.type.dtype not in FLOATS:
            raise CannotHandle(f"{name}: before opset 11, Pad moves floats alone", "convert the model to opset 11")
        return image

    def _work(self, reading: Reading) -> Work:
        """What is to be done.

        Raises:
            CannotHandle: Something cannot be averaged; the message names it.
        """
        image, main = self._image(reading), reading.main
        reached, nodes = _reached(reading, image)
        ends = [output for output in main.graph.outputs if output.name in reached]
        if not ends:
            raise CannotHandle(f"no output depends on {image.tensor.name}", "leave the views out")
        for output in ends:
            found = reading.shapes.of(main, output)
            if found.dtype not in FLOATS:
                raise CannotHandle(f"{output.name}: the output is no float to average", "leave the views out")
            if _is_map(found, image):
                raise CannotHandle(f"{output.name}: the output is a map, which would have moved", "leave the views out")
        tails = {output.name: _tail(output, reached) for output in ends}
        opened = _closed({name: tail for name, tail in tails.items() if tail}) if self.of == "logits" else {}
        meetings: dict[str, tuple[Tensor, bool]] = {}
        where = []
        for output in ends:
            op = tail.op if (tail := tails[output.name]) else ""
            soft = self.of == "probabilities" and op in ("", "LogSoftmax")
            if soft and not _has_classes(reading.shapes.of(main, output)):
                raise CannotHandle(f"{output.name}: no logits of classes, so no probabilities", "average the logits")
            side = f"{'in front of' if output.name in opened else 'behind'} its {op}" if op else "as it is"
            where.append(f"{output.name} {'as the logits of the mean probabilities' if soft else side}")
            for tensor in opened[output.name].inputs if output.name in opened else [output]:
                meetings[tensor.name] = tensor, soft
        behind = {key for tail in opened.values() for key in tail.nodes}
        return Work(image, [node for node in nodes if id(node) not in behind], meetings, where)


def _reached(reading: Reading, image: Image) -> tuple[set[str], list[Node]]:
    """The names of all tensors whose values depend on the image, and the nodes that make them; errors as of
    `PlainViews.check`."""
    names, reached, nodes = reading.names, {image.tensor.name}, []
    for node in reading.main.nodes:
        if not any(tensor.name in reached for tensor in node.inputs) or node.op in OF_SIZES:
            continue
        name = names.get(id(node), node.name)
        if node.op in PICKING and in_default_domain(node):
            raise CannotHandle(f"{name}: {node.op} picks others in each view", "leave the views out")
        if any(True for _ in node.subgraphs()):
            raise CannotHandle(f"{name}: {node.op} reads the image", "leave the views out")
        nodes.append(node)
        reached |= {tensor.name for tensor in node.outputs if tensor.name}
    inner = (scope for scope in reading.editor.scopes if scope.parent is not None)
    read = sorted(reached & {tensor.name for scope in inner for node in scope.nodes for tensor in node.inputs})
    if read:
        raise CannotHandle(f"{read[0]}: an If, Loop or Scan reads it", "leave the views out")
    return reached, nodes


def _is_map(found: TensorType, image: Image) -> bool:
    """Whether an output has, or may have, more than one position, or is no row per sample."""
    dims, rank = found.dims, len(image.layout)
    if dims is None:
        return True
    if len(dims) == rank < 4:  # of a signal
        return dims[-1] != 1 if rank == 3 else not isinstance(dims[1], int) or dims[1] == image.type.dim(1)
    is_row = len(dims) < 2 or not isinstance(dims[0], int) or dims[0] in (1, (image.type.dims or (1,))[0])
    return not is_row or sum(size != 1 for size in dims[1:]) > 1


def _tail(tensor: Tensor, reached: set[str]) -> Tail | None:
    """What squashes an output, where all that comes to it was squashed and nothing else was done behind."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not in_default_domain(node) or node.op not in SQUASHING | SAME_VALUES:
        return None
    if node.op in SQUASHING:
        return Tail([node.inputs[0]], {id(node): node}, node.op)
    parts = [_tail(source, reached) for source in node.inputs if source.name in reached]
    found = [part for part in parts if part]
    if not found or len(found) < len(parts) or len({part.op for part in found}) > 1:
        return None
    nodes = {key: one for part in found for key, one in part.nodes.items()}
    return Tail([one for part in found for one in part.inputs], nodes | {id(node): node}, found[0].op)


def _closed(tails: dict[str, Tail]) -> dict[str, Tail]:
    """Those whose tensors nothing but tails reads: whatever else reads one wants that of its own view."""
    known = {key for tail in tails.values() for key in tail.nodes}
    kept = {
        name: tail
        for name, tail in tails.items()
        if all(id(reader) in known for node in tail.nodes.values() for t in node.outputs for reader in t.outputs)
    }
    return kept if len(kept) == len(tails) else _closed(kept)


def _has_classes(found: TensorType) -> bool:
    """Whether an output has, or may have, several values per sample."""
    return found.dims is not None and len(found.dims) > 1 and any(size != 1 for size in found.dims[1:])


def _move(editor: GraphEditor, scope: Scope, image: Image, shift: Sequence[int], name: str) -> list[Node]:
    """Nodes that move an image, none where it stays: its border reflected on one side, as much cut on the other."""
    kept = [(axis, step) for axis, step in zip(image.axes, shift, strict=True) if step]
    if not kept:
        return []
    name = f"{image.tensor.name}/{name}"
    steps, rank = dict(kept), len(image.layout)
    pads = [max(sign * steps.get(axis, 0), 0) for sign in (1, -1) for axis in range(rank)]
    cuts = {
        "starts": [max(-step, 0) for _, step in kept],
        "ends": [-step if step > 0 else 2**31 - 1 for _, step in kept],
        "axes": [axis for axis, _ in kept],
    }
    padded, moved = editor.variable(f"{name}/padded"), editor.variable(name)
    if scope.opset < OLDEST_PAD_WITH_INPUTS:
        pad = editor.node("Pad", f"{name}/Pad", [image.tensor], [padded], mode="reflect", pads=pads)
    else:
        amounts = editor.constant(scope, f"{name}/pads", np.array(pads), INT64)
        pad = editor.node("Pad", f"{name}/Pad", [image.tensor, amounts], [padded], mode="reflect")
    if scope.opset < OLDEST_SLICE_WITH_INPUTS:
        return [pad, editor.node("Slice", f"{name}/Slice", [padded], [moved], **cuts)]
    bounds = [editor.constant(scope, f"{name}/{what}", np.array(value), INT64) for what, value in cuts.items()]
    return [pad, editor.node("Slice", f"{name}/Slice", [padded, *bounds], [moved])]


def _feed(editor: GraphEditor, nodes: Sequence[Node], old: Tensor, new: Tensor) -> None:
    """Let nodes read another tensor in the place of one."""
    for node in nodes if new is not old else ():
        for k, tensor in enumerate(node.inputs):
            if tensor is old:
                editor.set_input(node, k, new)


class _Average:
    """Makes the nodes that average tensors of one type, at a tensor of the main graph."""

    def __init__(self, editor: GraphEditor, scope: Scope, name: str, found: TensorType) -> None:
        self.editor, self.scope, self.name, self.type = editor, scope, name, found
        self.nodes: list[Node] = []

    def mean(self, each: Sequence[Tensor], target: Tensor | None = None) -> Tensor:
        """Their mean; ONNX Runtime has no Mean in float64."""
        if self.type.dtype != DOUBLE:
            return self._add("Mean", each, target)
        share = self.editor.constant(self.scope, f"{self.name}/share", np.array(1 / len(each)), DOUBLE)
        return self._add("Mul", [self._add("Sum", each), share], target)

    def soft(self, each: Sequence[Tensor], target: Tensor) -> None:
        """The logits whose softmax is the mean of theirs, log(mean(exp(x - lse(x)))) + mean(lse(x)); the largest of the
        views is taken out of the exponential."""
        axes = list(range(1, len(self.type.dims or ())))
        if self.scope.opset < OLDEST_REDUCTION_WITH_INPUTS:
            sums = [self._add("ReduceLogSumExp", [one], axes=axes) for one in each]
        else:
            over = self.editor.constant(self.scope, f"{self.name}/axes", np.array(axes), INT64)
            sums = [self._add("ReduceLogSumExp", [one, over]) for one in each]
        logs = [self._add("Sub", [one, total]) for one, total in zip(each, sums, strict=True)]
        top = self._add("Max", logs)
        shares = [self._add("Exp", [self._add("Sub", [one, top])]) for one in logs]
        mean = self._add("Add", [self._add("Log", [self.mean(shares)]), top])
        self._add("Add", [mean, self.mean(sums)], target)

    def _add(self, op: str, inputs: Sequence[Tensor], target: Tensor | None = None, **attributes: object) -> Tensor:
        target = target or self.editor.variable(f"{self.name}/{op}")
        self.nodes.append(self.editor.node(op, f"{self.name}/views/{op}", inputs, [target], **attributes))
        return target
