"""Embeddings whose drift, neighbours and index one can work out by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from refusals import refused
from small_nets import SHARED, needs_shared, parse, save

from aarewrite.verification import verify
from aarewrite.verification.embed import embedding


def parity(swapped: bool = False) -> onnx.ModelProto:
    """Two numbers: the mean over even columns and over odd ones, or the other way around."""
    even, odd = (", ".join(str((k + rest) % 2) for k in range(16)) for rest in (1, 0))
    order = "b, a" if swapped else "a, b"
    return parse(f"""
    parity (float[N,1,16,16] x) => (float[N,2] y)
    <float[1,1,1,16] even = {{{even}}}, float[1,1,1,16] odd = {{{odd}}}> {{
        a = Mul(x, even)
        b = Mul(x, odd)
        both = Concat<axis = 1>({order})
        means = GlobalAveragePool(both)
        y = Flatten(means)
    }}""")


@pytest.fixture
def columns(tmp_path) -> str:
    """Images of embeddings (1, 0), (0, 1) and (1, 1/2); a step to the right exchanges the two numbers."""
    images = np.zeros((3, 1, 20, 20), np.float32)
    images[0, ..., ::2] = images[1, ..., 1::2] = images[2, ..., ::2] = 1
    images[2, ..., 1::2] = 0.5
    return save(tmp_path / "columns.npz", x=images)


def test_drift_and_neighbours_are_those_worked_out_by_hand(columns):
    report = verify(parity(), columns, task="embed", max_shift=2)
    (result,) = report.embeddings
    assert (report.task, result.size, result.n, result.signal, result.index) == ("embed", 2, 3, True, None)
    near, far = 1 - 2 / 5**0.5, 1 - 1 / 5**0.5  # of the third from the first and from the second, which are 1 apart
    assert result.apart.value == pytest.approx((2 + 2 * near + 2 * far) / 6, abs=1e-6)
    at = {(p.direction, p.distance): p for p in result.points}
    for shift in (("vertical", 1), ("horizontal", 2), ("diagonal", 2)):
        assert at[shift].drift.value == pytest.approx(0, abs=1e-6)
        assert (at[shift].neighbour.value, at[shift].found.value) == (1, 1)
    for shift in (("horizontal", 1), ("diagonal", 1)):
        assert at[shift].drift.value == pytest.approx((1 + 1 + 0.2) / 3, abs=1e-6)
        # Of the first the third was nearest and is the second; of the second, the third and the first; of the third,
        # the first and the second
        assert (at[shift].neighbour.value, at[shift].found.value) == (0, 0)
    assert result.drift.value == pytest.approx(2.2 / 3 / 3, abs=1e-6)
    assert result.drift_of_apart == pytest.approx(result.drift.value / result.apart.value)
    assert (result.neighbour.value, result.found.value) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_length_of_an_embedding_is_no_matter(columns, factor):
    scaled = parity()
    scaled.graph.node[-1].output[0] = "flat"
    scaled.graph.node.append(onnx.helper.make_node("Mul", ["flat", "factor"], ["y"]))
    scaled.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), "factor"))
    found, wanted = (verify(net, columns, task="embed", max_shift=2).embeddings[0] for net in (scaled, parity()))
    assert found.apart.value == pytest.approx(wanted.apart.value, abs=1e-6)
    assert found.drift.value == pytest.approx(wanted.drift.value, abs=1e-6)
    assert (found.neighbour.value, found.found.value) == (wanted.neighbour.value, wanted.found.value)


def test_an_index_of_the_original_serves_or_does_not(columns):
    same, _ = verify(parity(), columns, against=parity(), names=("a", "b"), task="embed", max_shift=2).embeddings
    assert same.index.found.value == same.index.neighbour.value == 1
    assert same.index.drift.value == pytest.approx(0, abs=1e-6)
    assert same.index.found_moved.value == same.found.value
    report = verify(parity(True), columns, against=parity(), names=("swapped", "plain"), task="embed", max_shift=2)
    swapped, plain = report.embeddings
    assert plain.index is None
    assert swapped.index.found.value == 0
    assert swapped.index.drift.value == pytest.approx(2.2 / 3, abs=1e-6)
    assert swapped.index.found_moved.value == pytest.approx(2 / 6)  # a step to the right swaps them back
    assert swapped.index.neighbour.value == 0
    (change,) = report.changes
    assert (change.name, change.change, change.n) == ("crop nearest neighbours that stay", 0, 3)


def test_embeddings_of_another_size_share_no_index(columns):
    wide = parse("wide (float[N,1,16,16] x) => (float[N,256] y) { y = Flatten(x) }")
    found, _ = verify(wide, columns, against=parity(), names=("wide", "two"), task="embed", max_shift=1).embeddings
    assert (found.size, found.index) == (256, None)


def test_images_that_are_all_the_same_to_a_model_are_no_signal(columns):
    flat = parse("""
    flat (float[N,1,16,16] x) => (float[N,2] y) <float[2,1,1,1] w = {0, 0}, float[2] b = {1, 2}> {
        a = Conv(x, w, b)
        c = GlobalAveragePool(a)
        y = Flatten(c)
    }""")
    (result,) = verify(flat, columns, task="embed", max_shift=1).embeddings
    assert not result.signal
    assert np.isnan(result.drift_of_apart)


def test_the_limit_is_the_share_of_neighbours_that_stay(columns):
    report = verify(parity(), columns, task="embed", max_shift=1, min_consistency=0.9, names=("net", ""))
    assert report.failures == ("crop share of nearest neighbours that stay of net is 0.3333, below 0.9",)


def test_lists_and_maps_count_by_their_mean():
    tokens = np.arange(12.0).reshape(1, 4, 3)
    assert embedding(tokens).tolist() == [4.5, 5.5, 6.5]
    assert embedding(tokens.reshape(1, 3, 2, 2)).tolist() == [1.5, 5.5, 9.5]
    assert embedding(np.arange(3.0)[None]).tolist() == [0, 1, 2]


def test_too_few_images_have_no_neighbours(tmp_path):
    onnx.save(parity(), tmp_path / "p.onnx")
    args = [str(tmp_path / "p.onnx"), "--task", "embed", "--data", "synthetic:2"]
    refused(2, "--task embed: 2 samples have no neighbours", "give at least 3", args=args)


@needs_shared
def test_features_of_a_real_network():
    (result,) = verify(
        SHARED / "models" / "zaru_slim_160_latest.onnx", "synthetic:3", task="embed", max_shift=1
    ).embeddings
    assert (result.size, result.n) == (143, 3)
    assert 0 < result.drift.value < 1
