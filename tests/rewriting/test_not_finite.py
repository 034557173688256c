"""Maps that are not finite in the original already: the message names the weights at fault, or what to leave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.rewriting import not_finite
from aarewrite.rewriting.proof import Claim


def pooled(between: str, **initializers: object) -> onnx.ModelProto:
    """A conv and a strided pool, with a node that makes `r` of `a` between them."""
    return build(
        f"""(float[1, 2, 16, 16] x) => (float[1, 2, 8, 8] p) {{
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            {between}
            [pool] p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
        }}""",
        **({"w": weight(2, 2, 3, 3)} | initializers),
    )


def infinite(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Weights of which one is no number to calculate with."""
    taps = weight(2, 2, 3, 3).copy()
    taps[1, 0, 1, 1] = value
    return taps


def failure(model: onnx.ModelProto) -> str:
    """What the proof of a model says."""
    with pytest.raises(aarewrite.CheckFailed) as caught:
        aarewrite.rewrite(model)
    return str(caught.value)


def test_weights_that_are_infinite_are_named() -> None:
    assert failure(pooled("r = Relu(a)", w=infinite(np.inf))) == (
        "identity proof: tensor 'p' holds NaN or infinity in the original itself, which a blur would spread; "
        "nothing was written; check the weights 'w': they hold NaN or infinity"
    )


def test_an_infinite_constant_is_named_by_the_tensor_that_it_makes() -> None:
    masked = np.zeros((16, 16), np.float32)
    masked[:, 8:] = -np.inf
    model = pooled("r = Add(a, mask)")
    model.graph.node.insert(
        0, onnx.helper.make_node("Constant", [], ["mask"], value=onnx.numpy_helper.from_array(masked))
    )
    assert failure(model).endswith("nothing was written; check the weights 'mask': they hold NaN or infinity")


def test_what_the_model_calculates_is_left_out_by_its_site() -> None:
    model = pooled("b = Relu(a) r = Reciprocal(b)")
    assert failure(model).endswith("nothing was written; keep the sites that lead to it with --skip")
    assert not aarewrite.rewrite(model, skip=["pool"]).changed


def test_finite_maps_are_no_matter_of_the_original() -> None:
    finite = load(pooled("r = Relu(a)"))
    assert not not_finite.in_original(finite, Claim(), "p")
    assert not not_finite.weights_to_check(finite)


def test_some_names_of_many_are_enough() -> None:
    model = pooled("r = Relu(a)", **{f"k{i}": np.array([np.nan], np.float32) for i in range(5)})
    assert not_finite.weights_to_check(load(model)) == (
        "check the weights 'k0', 'k1', 'k2' and 2 more: they hold NaN or infinity"
    )
