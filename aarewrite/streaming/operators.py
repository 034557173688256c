"""Which operator has which rule along the stream."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from aarewrite.model.external import bodies
from aarewrite.model.types import DEFAULT_DOMAIN
from aarewrite.sites.regions import POINTWISE
from aarewrite.streaming.pointwise import (
    along_others,
    concatenation,
    cross_channel,
    elementwise,
    expansion,
    gathering,
    gemm,
    normalisation,
    product,
    quantisation,
    reduction,
    reshaping,
    resizing,
    splitting,
    transposition,
)  # fmt: skip
from aarewrite.streaming.rules import Ask, Asked, Fit
from aarewrite.streaming.sliding import convolution, padding, pooling, slicing, transposed_convolution
from aarewrite.streaming.source import Source
from aarewrite.streaming.tracks import Track

MORE_POINTWISE = (
    "Acos", "Acosh", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "Ceil", "Cos", "Cosh", "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN",
    "Less", "LessOrEqual", "Mean", "Mod", "Not", "Or", "Round", "Shrink", "Sign", "Sin", "Sinh", "Tan", "Where", "Xor",
)  # fmt: skip
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
ALONG_OTHERS = (
    "ArgMax", "ArgMin", "CumSum", "Hardmax", "LayerNormalization", "LogSoftmax", "LpNormalization", "Softmax", "TopK",
)  # fmt: skip
RULES: Mapping[str, Asked] = {
    **dict.fromkeys((*POINTWISE - {"BatchNormalization"}, *MORE_POINTWISE), elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(ALONG_OTHERS, along_others),
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), convolution),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), pooling),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), product),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantisation),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshaping),
    "BatchNormalization": normalisation, "Concat": concatenation, "ConvTranspose": transposed_convolution,
    **dict.fromkeys(("Resize", "Upsample"), resizing),
    "Expand": expansion, "Gather": gathering, "Gemm": gemm, "LRN": cross_channel, "Pad": padding,
    "Slice": slicing, "Split": splitting, "Transpose": transposition,
}  # fmt: skip
# Microsoft's quantised operators that work point by point, and what they do where it has a name of its own.
MICROSOFT = "com.microsoft"
OF_MICROSOFT: Mapping[str, Asked] = {
    **dict.fromkeys(
        ("FastGelu", "Gelu", "QLinearAdd", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QuickGelu"), elementwise
    ),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantisation),
}
STATISTICS = {
    "GlobalAveragePool": "it averages the whole window", "GlobalMaxPool": "it takes the whole window's maximum",
    "GlobalLpPool": "it sums over the whole window", "InstanceNormalization": "its statistics are the whole window's",
    "GroupNormalization": "its statistics are the whole window's", "LSTM": "it runs through the whole window",
    "GRU": "it runs through the whole window", "RNN": "it runs through the whole window",
}  # fmt: skip


def fit(source: Source, tracks: Mapping[str, Track], node: onnx.NodeProto) -> Fit:
    """The rule of a node that reads at least one streamed tensor, or why it is computed on the whole window."""
    ask = Ask(source, tracks, node)
    if any(True for _ in bodies(node)):
        return "it holds a graph of its own"
    known = RULES if node.domain in DEFAULT_DOMAIN else OF_MICROSOFT if node.domain == MICROSOFT else {}
    asked = known.get(node.op_type)
    if asked is None:
        return STATISTICS.get(node.op_type, f"no rule for {node.op_type} along the stream")
    return asked(ask)
