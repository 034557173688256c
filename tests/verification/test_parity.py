"""Numeric parity: Polygraphy's false passes fail here, differences are found where they are; where nodes run, and
parity of CUDA with the CPU, which is skipped where onnxruntime has no CUDA provider."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
from small_nets import SHARED, needs_shared, parse, phase_classifier, pooled_net, save, stripes

from aarewrite.model.runner import Model
from aarewrite.verification import verify
from aarewrite.verification.parity import compare, node_placement

ONE = np.arange(6, dtype=np.float32).reshape(1, 6)


def test_equal_runs_are_equal():
    parity = compare("a", "b", [{"y": ONE}], [{"y": ONE.copy()}], "ones")
    assert parity.equal
    assert parity.failures == ()
    assert parity.outputs[0].max_abs == 0


@pytest.mark.parametrize(
    ("got", "want", "word"),
    [
        ([{"z": ONE}], [{"y": ONE}], "differ by name"),
        ([{"y": ONE}], [{"y": ONE, "z": ONE}], "differ by name"),
        ([{"y": ONE, "z": ONE}], [{"y": ONE}], "differ by name"),
        ([{"y": ONE}], [{"y": ONE[:, :3]}], "shape"),
        ([{"y": ONE}], [{"y": ONE.astype(np.float64)}], "dtype"),
        ([{"y": ONE[:0]}], [{"y": ONE[:0]}], "empty"),
        ([{"y": ONE * np.nan}], [{"y": ONE * np.nan}], "NaN"),
        ([{"y": np.full_like(ONE, np.inf)}], [{"y": np.full_like(ONE, np.inf)}], "inf"),
        ([{}], [{}], "no outputs"),
        ([], [], "nothing was run"),
        ([{"y": ONE}, {"y": ONE}], [{"y": ONE}], "2 runs against 1"),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_structure_and_nan_always_fail(got, want, word, required):
    parity = compare("a", "b", got, want, "x", required=required)
    assert not parity.equal
    assert any(word in reason for reason in parity.failures)


def test_polygraphy_alone_would_pass_renamed_and_missing_outputs():
    """Why its comparator is not used; when this fails, Polygraphy has become strict and ours may go."""
    from polygraphy import comparator
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):

        def verdict(first, second):
            runs = comparator.RunResults(
                [(n, [comparator.IterationResult(outputs=o, runner_name=n)]) for n, o in (("a", first), ("b", second))]
            )
            return all(map(bool, comparator.Comparator.compare_accuracy(runs)))

        assert verdict({"z": ONE}, {"y": ONE})
        assert verdict({"y": ONE, "q": ONE + 1}, {"y": ONE})
        assert not verdict({"y": ONE}, {"y": ONE + 1})


def test_largest_differences_and_their_place():
    other = ONE.copy()
    other[0, 4] += 0.5
    parity = compare("a", "b", [{"y": other}], [{"y": ONE}], "x")
    (output,) = parity.outputs
    assert (output.max_abs, output.where, output.scale) == (0.5, (0, 0, 4), 5.0)
    assert output.max_rel == pytest.approx(0.125)
    assert output.tolerance == pytest.approx(5e-5)
    assert not output.passed
    assert "0.5 at (0, 0, 4)" in parity.failures[0]
    assert compare("a", "b", [{"y": other}], [{"y": ONE}], "x", max_diff=0.5).equal
    assert compare("a", "b", [{"y": other}], [{"y": ONE}], "x", required=False).failures == ()


@pytest.mark.parametrize(("dtype", "passes"), [(np.float32, False), (np.float16, True), (np.int32, True)])
def test_tolerance_follows_the_dtype(dtype, passes):
    values = ONE.astype(dtype)
    other = values * np.array(1.001).astype(dtype) if passes and dtype is np.float16 else values + values // 1000
    if dtype is np.float32:
        other = values * np.float32(1.001)
    assert compare("a", "b", [{"y": other}], [{"y": values}], "x").equal is passes


def scaled(factor: float, output: str = "logits") -> onnx.ModelProto:
    return parse(f"""
    g (float[N,1,16,16] x) => (float[N,2] {output}) <float[2,1,1,1] w = {{{factor}, 2}}> {{
        a = Conv(x, w)
        b = GlobalAveragePool(a)
        {output} = Flatten(b)
    }}""")


def test_models_are_compared_and_limits_decide():
    same = verify(scaled(1), "synthetic:4", against=scaled(1), max_diff=0.0, names=("a", "b"))
    assert same.passed
    assert same.parity[0].equal
    meant = verify(scaled(1.5), "synthetic:4", against=scaled(1), names=("a", "b"))
    assert not meant.parity[0].equal
    assert meant.passed
    limited = verify(scaled(1.5), "synthetic:4", against=scaled(1), max_diff=1e-4, names=("a", "b"))
    assert "'logits' differs by" in limited.failures[0]
    renamed = verify(scaled(1, "other"), "synthetic:4", against=scaled(1), names=("a", "b"))
    assert "differ by name" in renamed.failures[0]


def test_reference_file_with_its_inputs(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 1, 16, 16)).astype(np.float32)
    mean = x.mean(axis=(1, 2, 3))
    good = save(tmp_path / "good.npz", x=x, logits=np.stack([mean, 2 * mean], axis=1))
    assert verify(scaled(1), "synthetic:2", against=good).passed
    bad = save(tmp_path / "bad.npz", x=x, logits=np.stack([mean, 3 * mean], axis=1))
    report = verify(scaled(1), "synthetic:2", against=bad)
    assert "'logits' differs" in report.failures[0]
    renamed = save(tmp_path / "renamed.npz", x=x, scores=np.stack([mean, 2 * mean], axis=1))
    assert "differ by name" in verify(scaled(1), "synthetic:2", against=renamed).failures[0]


def test_reference_file_for_the_first_samples(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(6))
    outputs = np.tile(np.array([[0.5, 0.0]], np.float32), (6, 1))  # the centre crop starts on a dark column
    good = save(tmp_path / "good.npz", logits=outputs)
    assert verify(phase_classifier(), data, against=good).passed
    bad = save(tmp_path / "bad.npz", logits=outputs + 1)
    assert not verify(phase_classifier(), data, against=bad).passed


needs_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="no CUDA provider here"
)


@needs_cuda
@pytest.mark.parametrize("blur", [False, True])
def test_small_net_agrees_with_the_cpu(blur):
    report = verify(pooled_net(blur), "synthetic:8", provider="cuda", names=("net", ""))
    assert report.passed, report.failures
    assert report.provider == "cuda"
    assert {place.provider for place in report.placement} == {"cpu", "cuda"}


@needs_cuda
@needs_shared
@pytest.mark.parametrize(
    "name", ["squeezenet1_1_fp32.onnx", "squeezenet_fp16_winml.onnx", "cifar10_resnet20_dynamo_op20.onnx"]
)
def test_shared_models_agree_with_the_cpu(name):
    report = verify(SHARED / "models" / name, "synthetic:4", provider="cuda")
    assert report.passed, report.failures


def test_placement_on_the_cpu_names_every_node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = pooled_net(blur=True)
    place = node_placement(Model(net), "cpu", {"x": np.zeros((1, 1, 32, 32), np.float32)})
    assert set(place.counts) == {"CPUExecutionProvider"}
    assert place.counts["CPUExecutionProvider"] >= 4
    assert place.fallen_back == ()
    assert place.milliseconds > 0
    assert list(tmp_path.iterdir()) == []  # the profile does not stay behind
    assert isinstance(net, onnx.ModelProto)
