"""A model run piece by piece gives what it gives as a whole, and each piece runs once where memory allows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from pairs import noise, residual_pair
from reference import run

from aarewrite.calibration.stream import Stream
from aarewrite.errors import UsageError

TENSORS = ["branch1", "sum", "depthwise", "head"]


def streamed(memory: int) -> tuple[dict[str, list[np.ndarray]], int]:
    """Each tensor in a run of its own, cut before its node, per batch; and how often the data were read."""
    model, batches, passes = residual_pair()[0], noise(2, 3, 16, 16, batches=3), []

    def counted() -> Iterable[dict[str, np.ndarray]]:
        passes.append(1)
        return batches()

    stream = Stream(model, counted, memory=memory, threads=1)
    cuts = {node.output[0]: index for index, node in enumerate(model.graph.node)}
    found = {name: [values[name] for values in stream.run([name], cuts[name])] for name in TENSORS}
    return found, len(passes)


@pytest.mark.parametrize(("memory", "passes"), [(1 << 30, 1), (0, len(TENSORS))])
def test_pieces_give_what_the_whole_gives_and_memory_saves_passes(memory: int, passes: int) -> None:
    found, read = streamed(memory)
    assert read == passes
    for batch, feed in enumerate(noise(2, 3, 16, 16, batches=3)()):
        np.testing.assert_allclose(found["head"][batch], run(residual_pair()[0], **feed)[0], atol=1e-5)
    roomy, _ = streamed(1 << 30)
    for name in TENSORS:
        np.testing.assert_allclose(found[name], roomy[name], atol=1e-5)


def test_weights_changed_behind_the_last_cut_count_in_the_next_piece() -> None:
    model = residual_pair()[0]
    stream = Stream(model, noise(2, 3, 16, 16, batches=1), memory=1 << 30, threads=1)
    cut = next(index for index, node in enumerate(model.graph.node) if node.name == "depthwise")
    (before,) = stream.run(["depthwise"], cut)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "depthwise.b")
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + np.float32(1)).tobytes()
    (after,) = stream.run(["depthwise"], cut)
    np.testing.assert_allclose(after["depthwise"], before["depthwise"] + 1, atol=1e-5)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"y": np.zeros((1, 3, 16, 16), np.float32)}, "lack the model's input x; name the arrays after .*given: y"),
        ({"x": np.zeros((1, 4, 16, 16), np.float32)}, "does not run on the calibration data: .*; check shape"),
    ],
)
def test_data_that_do_not_fit_are_one_clear_line(feed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        list(Stream(residual_pair()[0], lambda: [feed], memory=0, threads=1).run(["sum"], 0))
    assert "\n" not in str(caught.value)
