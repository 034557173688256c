"""What is opened together: models that take the samples, labels that fit them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from command import aa
from refusals import refused
from small_nets import parse, phase_classifier, save, stripes

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.preprocess import Preprocess
from aarewrite.data.setup import open_setup
from aarewrite.errors import UsageError
from aarewrite.verification import verify


def test_background_class_moves_the_labels(tmp_path):
    net = parse(
        """
    g (float[N,1,16,16] x) => (float[N,1001] y) <float[1001,1,1,1] w> {
        a = Conv(x, w)
        b = GlobalAveragePool(a)
        y = Flatten(b)
    }""".replace(
            "<float[1001,1,1,1] w>", "<float[1001,1,1,1] w = {" + ", ".join(["0"] * 4 + ["1"] + ["0"] * 996) + "}>"
        )
    )
    data = save(tmp_path / "d.npz", x=np.ones((3, 1, 20, 20), np.float32), labels=np.array([3, 3, 2]))
    report = verify(net, data)
    assert report.classification[0].top1.successes == 2  # label 3 is class 4
    assert any("background" in note for note in report.notes)


def test_missing_files(net, tmp_path):
    refused(2, "nowhere", args=[net, "--data", str(tmp_path / "nowhere")])
    refused(2, "gone.onnx", args=[str(tmp_path / "gone.onnx")])
    refused(2, "gone.onnx", args=[net, "--against", str(tmp_path / "gone.onnx")])


def test_model_whose_input_takes_no_images(folder, tmp_path):
    model = parse("""
    g (float[N,5,16,16] x) => (float[N,5] y) { a = GlobalAveragePool(x) y = Flatten(a) }""")
    onnx.save(model, tmp_path / "five.onnx")
    refused(3, "5 channels", args=[str(tmp_path / "five.onnx"), "--data", str(folder)])


def test_model_with_an_input_without_data(tmp_path):
    model = parse("""
    g (float[N,1,16,16] x, float[4] gain) => (float[N,1] y) {
        a = GlobalAveragePool(x)
        b = Flatten(a)
        c = ReduceSum<keepdims = 0>(gain)
        y = Mul(b, c)
    }""")
    onnx.save(model, tmp_path / "two.onnx")
    refused(3, "'gain'", "npz", args=[str(tmp_path / "two.onnx")])
    data = save(tmp_path / "d.npz", x=stripes(2), gain=np.ones(4, np.float32))
    assert aa("verify", tmp_path / "two.onnx", "--data", data).status == 0


def test_models_with_different_inputs(net, colour_net):
    refused(3, "inputs differ", args=[net, "--against", colour_net])


def test_preprocessing_made_by_hand_is_checked():
    with pytest.raises(UsageError, match="preprocessing mine: interpolation = 'cubic' is not one of nearest"):
        open_setup(phase_classifier(), "synthetic:2", preprocess=Preprocess("mine", interpolation="cubic"))


def test_two_models_share_the_sizes_that_one_of_them_fixes():
    setup = open_setup(phase_classifier("S"), "synthetic:2", against=phase_classifier(16), names=("open", "fixed"))
    assert (setup.spec.size, setup.geometry.canvas) == ((16, 16), (20, 20))
    assert setup.against_label == "fixed"
    assert setup.centre(setup.sample(1))[0].shape == (1, 1, 16, 16)


def test_readable_leaves_out_what_is_broken_and_says_so(colour_net, folder):
    setup = open_setup(colour_net, folder)
    assert setup.readable() is setup
    for name in ("03.png", "11.png"):
        (folder / name).write_text("hello")
    kept = setup.readable()
    assert kept.data.names == tuple(f"{i:02}.png" for i in range(11) if i != 3)
    assert np.array_equal(kept.sample(3).canvas, setup.sample(4).canvas)
    assert kept.data.description.startswith("12 of 12 images in images/, 2 of them not read: ")
    assert "03.png: cannot be decoded" in kept.data.description
    for name in kept.data.names:
        (folder / name).write_text("hello")
    with pytest.raises(UnreadableSample, match=r"00\.png"):
        setup.readable()
