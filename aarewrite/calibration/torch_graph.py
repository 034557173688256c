"""An ONNX graph run in PyTorch, with its weights as parameters that can be fitted and written back.

Every node is computed by the torch function of its operator; graph, names and order stay. What is fitted is not a
weight itself but the weight relative to the root mean square of its outgoing channel: folded normalisations leave
channels of very different size, and a step of one length would move them unequally.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

import onnx
import torch
from torch import Tensor

from aarewrite.calibration.layers import KINDS
from aarewrite.calibration.torch_operators import TRANSLATIONS, Step, constant, refusal, tensor_of
from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor
from aarewrite.model.index import Constants, ancestors, attributes, label
from aarewrite.model.model_file import load, opset_of
from aarewrite.sites.existing_blurs import is_blur, is_recorded

LAYERS = (*KINDS, "ConvTranspose")
FLOAT = onnx.TensorProto.FLOAT
SMALLEST = 0.05  # of the channels' mean size: the size that a smaller channel is taken to have


class TorchGraph:
    """The main graph of a model in PyTorch, as far as its first output needs it.

    Trained are the float32 initializers that are weight or bias of a Conv, ConvTranspose, Gemm or MatMul, vectors that
    an Add behind one of these adds, and scale and bias of BatchNormalization, whose mean and variance stay. The taps of
    blurs, slopes of PRelu and weights that are given by Constant nodes or computed stay as they are.

    Attributes:
        parameters: By name of the initializer, what an optimiser changes: its values relative to their channel's size.

    Args:
        model: With its weights inside; it is not changed.
        device: Where it runs.
        frozen: Names of further initializers that stay as they are.

    Raises:
        CannotHandle: A node that the output needs has no translation; the message names the first. Or the model has
            several inputs, or one that is not float32, or weights in other files.
    """

    parameters: dict[str, Tensor]

    def __init__(self, model: onnx.ModelProto, *, device: str = "cpu", frozen: Collection[str] = ()) -> None:
        self._model, self._device = model, device
        self._output = model.graph.output[0].name
        nodes = {place: model.graph.node[place] for place in sorted(ancestors(model, [self._output]))}
        self._input = _input(model)
        self._steps = _steps(model, list(nodes.values()))
        trained, read = _trained(model, nodes, frozen), {name for node in nodes.values() for name in node.input}
        self.parameters, self._scales, self._constants = {}, dict[str, Tensor](), dict[str, Tensor]()
        for initializer in model.graph.initializer:
            if initializer.name in trained:
                weight = tensor_of(initializer, device).to(device)
                scale = _channel_size(weight, trained[initializer.name])
                self._scales[initializer.name] = scale
                self.parameters[initializer.name] = (weight / scale).requires_grad_()
            elif initializer.name in read:
                self._constants[initializer.name] = tensor_of(initializer, device)
        for node in nodes.values():
            if node.op_type == "Constant" and (value := constant(node)) is not None:
                self._constants[node.output[0]] = tensor_of(value, device)

    def __call__(self, x: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The first output for a batch in the model's own layout, float32; `parameters` in the place of its own."""
        x = x.to(self._device)
        values: dict[str, Tensor] = {**self._constants, **self._weights(parameters)}
        values[self._input] = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        for step in self._steps:
            result = TRANSLATIONS[step.op](step, *(values[name] if name else None for name in step.inputs))
            results = (result,) if isinstance(result, Tensor) else result
            values.update(zip(step.outputs, results, strict=False))
            for name in step.done:
                del values[name]
        return values[self._output]

    def written(self, parameters: Mapping[str, Tensor] | None = None) -> onnx.ModelProto:
        """A copy of the model with the weights that the parameters stand for; all else is as it was."""
        model, weights = onnx.ModelProto(), self._weights(parameters)
        model.CopyFrom(self._model)
        for initializer in model.graph.initializer:
            if initializer.name in weights:
                values = weights[initializer.name].detach().cpu().contiguous().numpy()
                initializer.ClearField("float_data")
                initializer.raw_data = values.astype("<f4").tobytes()
        return model

    def _weights(self, parameters: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        given = {**self.parameters, **(parameters or {})}
        return {name: given[name] * scale for name, scale in self._scales.items()}


# ---- reading the model -------------------------------------------------------------------------------------


def _input(model: onnx.ModelProto) -> str:
    """The name of the one input; initializers may be inputs, too."""
    known = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    if len(inputs) != 1:
        raise CannotHandle(f"the model has {len(inputs)} inputs: only one is fed", "make the others constants")
    kind = inputs[0].type.tensor_type.elem_type
    if kind != FLOAT:
        said = onnx.TensorProto.DataType.Name(kind)
        raise CannotHandle(f"input {inputs[0].name!r} is {said}: only float32 is trained", "give the float32 model")
    return inputs[0].name


def _steps(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[Step]:
    reads = [name for node in nodes for name in node.input if name]
    for node in nodes:
        reason = refusal(node)
        if not reason and node.op_type != "Split" and any(name in reads for name in node.output[1:]):
            reason = f"the second output of {node.op_type}"
        if reason:
            raise CannotHandle(
                f"node {label(node)!r}: {reason} cannot be trained", "take a float32 classifier of common operators"
            )
    makers = {name: node.op_type for node in nodes for name in node.output}
    opset, seen, steps = opset_of(model.opset_import), {value.name for value in model.graph.output}, list[Step]()
    for node in reversed(nodes):
        if node.op_type == "Constant":
            continue
        inputs, outputs = tuple(node.input), tuple(node.output)
        done = tuple(name for name in dict.fromkeys(inputs) if name and name not in seen)
        seen.update(inputs)
        # No gradient of a convolution or a sum needs what came out of it.
        in_place = inputs[0] in done and reads.count(inputs[0]) == 1 and makers.get(inputs[0]) in ("Conv", "Add")
        steps.append(Step(label(node), node.op_type, inputs, outputs, attributes(node), opset, in_place, done))
    return steps[::-1]


def _trained(
    model: onnx.ModelProto, nodes: Mapping[int, onnx.NodeProto], frozen: Collection[str]
) -> dict[str, int | None]:
    """The initializers to train, and the axis of their outgoing channels, None for biases."""
    constants, editor = Constants(model), GraphEditor(load(model))
    main = editor.scopes[0]
    blurs = [node for node in main.nodes if is_blur(editor, node) or is_recorded(editor, node)]
    stay = {constants.source(name) for node in blurs for name in model.graph.node[main.positions[id(node)]].input}
    initializers = {one.name: one for one in model.graph.initializer}
    makers = {name: node.op_type for node in nodes.values() for name in node.output}
    found: dict[str, int | None] = {}
    for node in nodes.values():
        for place, axis in _places(node, makers).items():
            source = constants.source(node.input[place]) if place < len(node.input) else None
            if source not in initializers or source in stay or source in frozen:
                continue
            dims = initializers[source].dims
            vector = 1 < prod(dims) == max(dims, default=0)
            if initializers[source].data_type == FLOAT and (vector or node.op_type != "Add"):
                found.setdefault(source, axis if len(dims) > 1 else None)
    return found


def _places(node: onnx.NodeProto, makers: Mapping[str, str]) -> dict[int, int | None]:
    """The inputs of a node that can be weight or bias, and the axis of their outgoing channels."""
    if node.op_type == "Add":
        return {1 - place: None for place, name in enumerate(node.input) if makers.get(name) in LAYERS}
    transposed = node.op_type == "Gemm" and attributes(node).get("transB", 0)
    places: dict[str, dict[int, int | None]] = {
        "Conv": {1: 0, 2: None},
        "ConvTranspose": {1: 1, 2: None},
        "Gemm": {1: 0 if transposed else 1, 2: None},
        "MatMul": {0: -2, 1: -1},
        "BatchNormalization": {1: None, 2: None},
    }
    return places.get(node.op_type, {})


def _channel_size(weight: Tensor, axis: int | None) -> Tensor:
    """The root mean square of each outgoing channel, of the whole for a bias; 1 where all is zero."""
    others = [one for one in range(weight.dim()) if axis is None or one != axis % weight.dim()]
    size = weight.pow(2).mean(others, keepdim=True).sqrt()
    size = size.clamp_min(SMALLEST * float(size.mean()))
    return torch.where(size > 0, size, torch.ones_like(size))
