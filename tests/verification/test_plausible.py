"""Preprocessing that cannot be right is told, with what fits better, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_nets import SHARED, save

from aarewrite.data.setup import open_setup
from aarewrite.verification import verify
from aarewrite.verification.plausible import preprocessing_doubt

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS, MOBILENET = SAMPLES / "digits_eval.npz", SAMPLES / "mobilenet.onnx"


def doubts(*request: object, **options: object) -> list[str]:
    report = verify(*request, protocols=("crop",), max_shift=1, **options)
    return [note for note in report.notes if note.startswith("the preprocessing looks wrong")]


@pytest.mark.parametrize(
    ("preprocess", "signs"),
    [("raw255", "(raw255): 64 of 64 samples get class 8"), ("pm1", "(pm1): 9 of 64 labels fit, as by chance")],
)
def test_one_class_or_labels_by_chance_name_the_preset_that_fits(preprocess: str, signs: str) -> None:
    (note,) = doubts(MOBILENET, DIGITS, preprocess=preprocess)
    assert note == f"the preprocessing looks wrong {signs}; what fits better: unit (59 of 64 labels fit)"


def test_what_fits_is_not_doubted(tmp_path: Path) -> None:
    assert doubts(MOBILENET, DIGITS, preprocess="unit") == []
    assert doubts(MOBILENET, DIGITS, preprocess="raw255", limit=19) == []  # too few to tell
    assert doubts(MOBILENET, "synthetic:20") == []  # noise has no class
    stored = np.load(DIGITS)
    ones = save(
        tmp_path / "ones.npz", x=stored["x"][stored["labels"] == 1], labels=stored["labels"][stored["labels"] == 1]
    )
    assert len(np.load(ones)["labels"]) >= 20
    assert doubts(MOBILENET, ones, preprocess="unit") == []  # one class is what the labels say, too


def test_without_labels_presets_are_told_by_their_classes(tmp_path: Path) -> None:
    unlabelled = save(tmp_path / "digits.npz", x=np.load(DIGITS)["x"])
    (note,) = doubts(MOBILENET, unlabelled, preprocess="raw255")
    assert note.endswith("64 of 64 samples get class 8; what fits better: unit (10 classes among 64 samples)")


def test_labels_counted_from_elsewhere_are_told(tmp_path: Path) -> None:
    stored = np.load(DIGITS)
    keep = stored["labels"] < 9
    moved = save(tmp_path / "moved.npz", x=stored["x"][keep], labels=stored["labels"][keep] + 1)
    (note,) = doubts(MOBILENET, moved, preprocess="unit")
    assert "labels fit, as by chance; what fits better: labels moved by -1 with label_offset (" in note


def test_floats_have_no_presets_to_try(tmp_path: Path) -> None:
    floats = save(tmp_path / "floats.npz", x=np.load(DIGITS)["x"].astype(np.float32))
    (note,) = doubts(MOBILENET, floats)
    assert note.endswith("samples get class 8; what fits better: none of the presets")


def test_the_original_is_asked_and_not_the_model_under_test() -> None:
    """A model that a rewrite has ruined says nothing about the preprocessing."""
    ruined = onnx.load(MOBILENET)
    for tensor in ruined.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(tensor), tensor.name))
    assert "64 of 64 samples get class 0" in doubts(ruined, DIGITS, preprocess="unit")[0]
    assert doubts(ruined, DIGITS, preprocess="unit", against=MOBILENET, names=("ruined", "mobilenet")) == []


def test_squeezenet_under_the_preset_that_is_assumed() -> None:
    model, photographs = SHARED / "models" / "squeezenet1_1_fp32.onnx", SHARED / "images" / "imagenet_sample"
    if not model.exists():
        pytest.skip("the shared models are not here")
    setup = open_setup(model, photographs, limit=20)
    doubt = preprocessing_doubt(setup)
    assert doubt.startswith("the preprocessing looks wrong (imagenet (assumed; set --preprocess)): ")
    assert "19 of 20 samples get class 669; what fits better: " in doubt
    assert "caffe (20 classes among 20 samples)" in doubt
