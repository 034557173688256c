"""Blurs that a model has already -> the plainest form of the same function.

A convolution that filters every channel alone is a depthwise one, whatever form an exporter gave it, and what behind it
only drops samples is its stride:

    Reshape (N C, 1) -> Conv of one channel -> Reshape (N, C)   =   depthwise Conv
    dense Conv with a diagonal kernel                           =   depthwise Conv
    Conv -> Slice with steps, from the first sample on          =   Conv with these strides
    Conv of stride 1 -> Conv 1x1 of stride s without pads       =   Conv of stride s -> Conv 1x1
    Pad with zeros -> Conv; a bias of zeros                     =   Conv with these pads; none

Samples that nothing reads are then never computed. Measured with ONNX Runtime's CPU provider, nets of FIR between
Reshapes take 0.27 to 0.63 of their time so, with Slices 0.07 to 0.40; with a stride moved in front of 1x1 convs 0.78 to
0.98. Filters of one axis after the other stay: as one kernel they are faster or slower by chance (0.73 to 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Array, Node, Tensor, integer, ints, text
from aarewrite.passes.contract import GraphPass, Rewritten
from aarewrite.sites.existing_blurs import blur_weight, is_recorded, value_readers
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import QUANTISATION

BEYOND = 2**31 - 1  # an end of a Slice that is behind every map's


class PlainBlurs(GraphPass):
    """Blurs in any form -> depthwise convolutions that sample."""

    told = "blurs that are there take a plainer form of the same function"
    saves = True

    def apply(self, reading: Reading, rewritten: Sequence[Rewritten]) -> int:
        """Do it to every blur that is not our own and has a plainer form."""
        editor, changed = reading.editor, 0
        convs = [(scope, node) for scope in editor.scopes for node in scope.nodes if node.op == "Conv"]
        for scope, node in convs:
            kernel = blur_weight(editor, node)
            if kernel is None or kernel[0].size == 1 or is_recorded(editor, node):
                continue
            if text(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID"):
                blur = _Blur(reading, scope, node, kernel)
                steps = (blur.take_slices, blur.undo_singles, blur.undo_dense, blur.take_stride, blur.take_zeros)
                changed += any([step() for step in steps])  # each may make the next possible
        return changed


@dataclass(frozen=True)
class _Blur:
    reading: Reading
    scope: Scope
    node: Node  # a Conv
    kernel: Array  # its depthwise weight, (C, 1, *k); of one channel where channels are images of their own

    @property
    def editor(self) -> GraphEditor:
        return self.reading.editor

    def undo_dense(self) -> bool:
        """A diagonal kernel of a dense convolution becomes a depthwise one."""
        dense = len(self.kernel) > 1 and integer(self.node, "group", 1) == 1
        return dense and self._become_depthwise(self.kernel)

    def take_slices(self) -> bool:
        """The steps of Slices become strides. 1. Nothing else reads the map. 2. They begin at the first sample and go
        on to the last, along spatial axes that are not sampled yet."""
        taken = False
        while (cut := self._only_reader()) is not None and cut.op in ("Identity", "Slice"):
            steps = self._steps(cut)
            if steps is None:
                break
            self._multiply_strides(steps)
            target = cut.outputs[0]
            self.editor.remove(self.scope, cut)
            self.editor.make_write(self.node, target)
            taken = True
        return taken

    def undo_singles(self) -> bool:
        """Channels that are images of their own become channels again. 1. A Reshape behind brings them together, and
        nothing else needs what is in between. 2. One in front makes images of them. 3. Their number is known, and they
        alone are what differs between the maps."""
        blurred = self.node.outputs[0]
        readers, front = value_readers(blurred), self._front()
        if len(self.kernel) > 1 or len(readers) != 1 or readers[0].op != "Reshape" or front is None:
            return False
        last, (whole, single, pads) = readers[0], front
        channels, behind = self._dims(whole)[1], self._dims(last.outputs[0])
        sizes = [self._dims(tensor)[2:] for tensor in (whole, single, blurred, last.outputs[0])]
        alike = sizes[0] == sizes[1] and sizes[2] == sizes[3] and not any(None in size for size in sizes)
        doomed = self.editor.needed_by(last, but=self.node)  # a shape may be worked out from the map's own
        others = [node for node in blurred.outputs if not any(node is one for one in doomed)]
        if not isinstance(channels, int) or not alike or behind[1:2] != (channels,) or others:
            return False
        if not self._become_depthwise(np.repeat(self.kernel, channels, axis=0)):
            return False
        for pad in reversed(pads):
            copy = self.editor.copy(pad, "channels", [whole, *pad.inputs[1:]])
            self.editor.insert_before(self.scope, self.node, [copy])
            whole = copy.outputs[0]
        old, target = self.node.inputs[0], last.outputs[0]
        self.editor.set_input(self.node, 0, whole)
        for node in doomed:
            self.editor.remove(self.editor.home(node), node)
        self.editor.make_write(self.node, target)
        self.editor.remove_unread(old)
        return True

    def take_stride(self) -> bool:
        """The stride of the 1x1 convolutions behind becomes the blur's. 1. They have no pads and one stride. 2. Nothing
        else reads the map, which is not sampled yet."""
        map_ = self.node.outputs[0]
        readers = list(map_.outputs)
        strides = {tuple(ints(reader, "strides")) for reader in readers if self._is_pointwise(reader)}
        if self.scope.is_output(map_) or len(strides) != 1 or not all(map(self._is_pointwise, readers)):
            return False
        taken = strides.pop()
        if max(taken, default=1) == 1 or max(ints(self.node, "strides"), default=1) > 1:
            return False
        self._multiply_strides(taken)
        for reader in readers:
            self.editor.set_attributes(reader, strides=[1] * len(taken))
        return True

    def _only_reader(self) -> Node | None:
        """The one node that needs the map, nothing being worked out from its shape."""
        map_ = self.node.outputs[0]
        return map_.outputs[0] if len(map_.outputs) == 1 and not self.scope.is_output(map_) else None

    def _steps(self, cut: Node) -> list[int] | None:
        """The steps of a Slice along the spatial axes; None where it does more than to take them."""
        rank = self.kernel.ndim
        strides = np.ones(rank, dtype=np.int64)
        if cut.op == "Slice":
            values = [self.editor.constant_value(tensor) for tensor in cut.inputs[1:]]
            if len(values) < 4 or any(value is None for value in values):
                return None
            starts, ends, axes, steps = (np.asarray(value).reshape(-1) for value in values)
            strides[axes] = steps
            sampled = np.array([1, 1, *ints(self.node, "strides", [1] * (rank - 2))])
            if starts.any() or (ends < BEYOND).any() or (strides < 1).any() or ((strides > 1) & (sampled > 1)).any():
                return None
        return None if strides[:2].max() > 1 else [int(stride) for stride in strides[2:]]

    def take_zeros(self) -> bool:
        """A bias of zeros goes, and a Pad with zeros becomes the convolution's own pads: 1. one of constant amounts,
        not less than 0, along spatial axes alone."""
        node, rank = self.node, self.kernel.ndim
        bias = self.editor.constant_value(node.inputs[2]) if len(node.inputs) > 2 else None
        if dropped := bias is not None and not bias.any():
            self.editor.drop_last_input(node)
        pad = next(iter(node.inputs[0].inputs), None)
        if pad is None or pad.op != "Pad" or text(pad, "mode", "constant") != "constant" or pad.attrs.get("value"):
            return dropped
        value = [self.editor.constant_value(tensor) for tensor in pad.inputs[2:] if tensor.name]
        amounts = self.editor.constant_value(pad.inputs[1]) if len(pad.inputs) > 1 else np.array(ints(pad, "pads"))
        if amounts is None or amounts.size != 2 * rank or amounts.min() < 0 or any(v is None or v.any() for v in value):
            return dropped
        both = amounts.reshape(2, rank)
        if both[:, :2].any():
            return dropped
        own = np.array(ints(node, "pads", [0] * (2 * rank - 4))).reshape(2, rank - 2)
        self.editor.set_attributes(node, pads=[int(n) for n in (own + both[:, 2:]).reshape(-1)], auto_pad=None)
        old = node.inputs[0]
        self.editor.set_input(node, 0, pad.inputs[0])
        self.editor.remove_unread(old)
        return True

    def _dims(self, tensor: Tensor) -> tuple[int | str | None, ...]:
        return self.reading.shapes.of(self.scope, tensor).dims or ()

    def _front(self) -> tuple[Tensor, Tensor, list[Node]] | None:
        """The map with channels, the one of single channels that Reshapes make of it, and the Pads behind that, the
        nearest to the convolution first."""
        tensor = single = self.node.inputs[0]
        pads: list[Node] = []
        while len(self._dims(tensor)) != self.kernel.ndim or self._dims(tensor)[1] == 1:
            maker = tensor.inputs[0] if tensor.inputs else None
            if maker is None or maker.op not in ("Identity", "Pad", "Reshape"):
                return None
            tensor = maker.inputs[0]
            if maker.op == "Pad" and not self._adds_nothing(maker):
                if len(self._dims(tensor)) != self.kernel.ndim:
                    return None
                pads.append(maker)
                single = tensor
        return tensor, single, pads

    def _adds_nothing(self, pad: Node) -> bool:
        amounts = self.editor.constant_value(pad.inputs[1]) if len(pad.inputs) > 1 else np.array(ints(pad, "pads"))
        return amounts is not None and not amounts.any()

    def _is_pointwise(self, node: Node) -> bool:
        if (
            node.op != "Conv"
            or node.inputs[0] is not self.node.outputs[0]
            or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
        ):
            return False
        shape = self.editor.constant_shape(node.inputs[1]) or (0, 0, 0)
        return not any(ints(node, "pads")) and set(shape[2:]) == {1}

    def _become_depthwise(self, kernel: Array) -> bool:
        """Give the convolution a depthwise weight; not where weight or bias are quantised or computed."""
        bias = [self.editor.constant_value(tensor) for tensor in self.node.inputs[2:] if tensor.name]
        quantised = any(maker.op in QUANTISATION for tensor in self.node.inputs[1:] for maker in tensor.inputs)
        if quantised or any(value is None for value in bias):
            return False
        dtype = onnx.helper.np_dtype_to_tensor_dtype(kernel.dtype)
        name = self.node.inputs[1].name
        self.editor.set_input(self.node, 1, self.editor.constant(self.scope, f"{name}/channels", kernel, dtype))
        for value in (value for value in bias if value is not None and len(value) < len(kernel)):
            constant = self.editor.constant(self.scope, f"{name}/bias", np.repeat(value, len(kernel)), dtype)
            self.editor.set_input(self.node, 2, constant)
        self.editor.set_attributes(self.node, group=len(kernel))
        return True

    def _multiply_strides(self, steps: Sequence[int]) -> None:
        strides = ints(self.node, "strides", [1] * len(steps))
        self.editor.set_attributes(self.node, strides=[int(a * b) for a, b in zip(strides, steps, strict=True)])
        self.editor.mark_stale(self.scope, self.node.outputs[0])
