"""Coded boxes with values one can work out by hand; which built-in profile fits outputs; what is refused and how."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.errors import CannotHandle
from aarewrite.verification.decode import Detections, choose_profile, decode, is_list, misfit, overlaps
from aarewrite.verification.profiles import BUILT_IN, load_profile, parse_profile

SIZE = (64, 96)  # height, width
LOG2 = np.log(2)


def profile(text: str):
    return parse_profile(text, "mine")


def boxes_of(code: str, t: list[float], extra: str = "", **keys: str) -> list[float]:
    """The box of the prediction in row 1, column 2 of a grid of stride 16."""
    raw = np.zeros((1, 4, 4, 6), np.float32)
    raw[0, :, 1, 2] = t
    score = np.zeros((1, 1, 4, 6), np.float32)
    score[0, 0, 1, 2] = 1
    text = f'strides = [16]\n{extra}\n[boxes]\noutputs = ["b"]\nlayout = "nchw"\ncode = "{code}"\n'
    text += "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    found = decode(profile(f'{text}[scores]\noutputs = ["s"]\nlayout = "nchw"'), {"b": raw, "s": score}, SIZE)
    assert len(found) == 1
    return found.boxes[0].tolist()


ANCHORS = "anchors = [[[10, 20]]]\noffset = 0.5"


@pytest.mark.parametrize(
    ("code", "t", "extra", "expected"),
    [
        ("corners", [1, 2, 5, 9], "", [1, 2, 5, 9]),
        ("corners-yx", [2, 1, 9, 5], "", [1, 2, 5, 9]),
        ("centre", [10, 20, 4, 6], "", [8, 17, 12, 23]),
        ("distances", [1, 0.5, 0.25, 2], "", [16, 8, 36, 48]),  # from (32, 16)
        ("distances", [1, 0.5, 0.25, 2], "offset = 0.5", [24, 16, 44, 56]),
        ("offset", [3, -2, 10, 8], "offset = 0.5", [38, 18, 48, 26]),  # about (43, 22)
        ("yolox", [0.5, 0.25, LOG2, 0], "", [24, 12, 56, 28]),  # about (40, 20), 32 x 16
        ("yolov3", [0, 0, LOG2, 0], "anchors = [[[10, 20]]]", [30, 14, 50, 34]),  # about (40, 24), 20 x 20
        ("yolov5", [0, 0, 0, 0], "anchors = [[[10, 20]]]", [35, 14, 45, 34]),  # the anchor about (40, 24)
        ("tanh", [0, 0, 0, 0], "", [8, 0, 56, 32]),  # half the picture about (32, 16)
        ("ssd", [1, -1, 0, 5 * LOG2], ANCHORS, [36, 2, 46, 42]),  # about (40 + 1, 24 - 2), 10 x 40
    ],
)
def test_codes(code, t, extra, expected):
    assert boxes_of(code, t, extra) == pytest.approx(expected, abs=1e-5)


def test_relative_units_are_shares_of_width_and_height():
    assert boxes_of("corners", [0.25, 0.5, 0.5, 1], units="relative") == [24, 32, 48, 64]
    assert boxes_of("corners-yx", [0.5, 0.25, 1, 0.5], units="relative") == [24, 32, 48, 64]


@pytest.mark.parametrize(
    ("layout", "shape", "order"),
    [
        ("nkhwc", (1, 2, 2, 3, 5), (2, 0, 1, 3)),
        ("nkchw", (1, 2, 5, 2, 3), (2, 3, 0, 1)),
        ("n(kc)hw", (1, 10, 2, 3), (2, 3, 0, 1)),
        ("nhwkc", (1, 2, 3, 2, 5), (0, 1, 2, 3)),
        ("nhw(kc)", (1, 2, 3, 10), (0, 1, 2, 3)),
        ("nac", (1, 12, 5), (0, 1, 2, 3)),
        ("nca", (1, 5, 12), (0, 1, 2, 3)),
        ("ac", (12, 5), (0, 1, 2, 3)),
    ],
)
def test_layouts_of_one_list_are_the_same_predictions(layout, shape, order):
    table = np.random.default_rng(0).random((2, 3, 2, 5))  # rows, columns, predictions a cell, values
    array = table.transpose(order).reshape(shape) if layout != "nca" else table.reshape(12, 5).T[None]
    text = f"""strides = [32]\nper_cell = [2]\nthreshold = 0.001\nnms = 1.0
    [boxes]\noutputs = ["o"]\nlayout = "{layout}"\nchannels = [0, 4]\ncode = "distances"
    [scores]\noutputs = ["o"]\nlayout = "{layout}"\nchannels = [4]"""
    found = decode(profile(text), {"o": array}, SIZE)
    scores = table[..., 4].reshape(-1)
    assert found.scores == pytest.approx(np.sort(scores)[::-1])
    y, x, k = np.unravel_index(scores.argmax(), (2, 3, 2))
    left, top, right, bottom = table[y, x, k, :4]
    assert found.boxes[0] == pytest.approx([32 * (x - left), 32 * (y - top), 32 * (x + right), 32 * (y + bottom)])


def test_scores_are_products_of_powers_and_background_is_no_class():
    text = """threshold = 0.25\nnms = 1.0\n[boxes]\noutputs = ["b"]
    [scores]\noutputs = ["s"]\nactivation = "softmax"\nbackground = 0
    [objectness]\noutputs = ["o"]\nactivation = "sigmoid"\npower = 0.5"""
    outputs = {
        "b": np.array([[[0, 0, 1, 1], [2, 2, 3, 3]]], float),
        "s": np.log([[[0.5, 0.1, 0.4], [0.8, 0.1, 0.1]]]),
        "o": np.array([[[0.0], [50.0]]]),
    }
    found = decode(profile(text), outputs, SIZE)
    assert found.classes.tolist() == [2]  # of the first box: the second is background, .1 at best
    assert found.scores == pytest.approx([0.4 * 0.5**0.5])


def test_nms_keeps_the_best_of_a_class():
    text = 'nms = 0.5\n[boxes]\noutputs = ["b"]\n[scores]\noutputs = ["s"]\n[classes]\noutputs = ["c"]\nlayout = "na"'
    outputs = {
        "b": np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [0, 0, 10, 30]]], float),
        "s": np.array([[[0.7], [0.9], [0.8], [0.6]]]),
        "c": np.array([[3.0, 3.0, 5.0, 3.0]]),
    }
    found = decode(profile(text), outputs, SIZE)
    assert found.scores.tolist() == [0.9, 0.8, 0.6]  # .7 overlaps .9 by 9/11; of another class, or by a third, it stays
    assert found.classes.tolist() == [3, 5, 3]
    assert len(decode(profile(text.replace("0.5", "1.0", 1)), outputs, SIZE)) == 4


def test_overlaps_are_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 9]], float)
    assert overlaps(boxes, boxes[:2]) == pytest.approx(np.array([[1, 1 / 7], [1 / 7, 1], [0, 0]]))


def test_keypoints_have_a_box_around_them_where_there_is_none():
    text = '[keypoints]\noutputs = ["p"]\nlayout = "nc"\nchannels = [0, 6]\nunits = "relative"'
    outputs = {"p": np.array([[0.25, 0.5, 0.5, 0.25, 0.75, 0.5, 7, 7]])}
    found = decode(profile(text), outputs, SIZE)
    assert found.points.tolist() == [[[24, 32], [48, 16], [72, 32]]]
    assert found.boxes.tolist() == [[24, 16, 72, 32]]
    assert found.scores.tolist() == [1]


def test_moved_detections_take_their_keypoints_along():
    found = Detections(np.zeros((1, 4)), np.ones(1), np.zeros(1), np.zeros((1, 1, 2))).moved((3, 5))  # down, right
    assert found.boxes.tolist() == [[5, 3, 5, 3]]
    assert found.points.tolist() == [[[5, 3]]]


def grid_list(strides: tuple[int, ...], per_cell: tuple[int, ...], channels: int) -> list[np.ndarray]:
    """Zeros, a list a stride."""
    counts = [-(-SIZE[0] // s) * -(-SIZE[1] // s) * k for s, k in zip(strides, per_cell, strict=True)]
    return [np.zeros((1, count, channels), np.float32) for count in counts]


def centres(strides: tuple[int, ...], count: int = 1) -> np.ndarray:
    found = [
        ((x + 0.5) * s, (y + 0.5) * s, 20, 10)
        for s in strides for y in range(-(-SIZE[0] // s)) for x in range(-(-SIZE[1] // s)) for _ in range(count)
    ]  # fmt: skip
    return np.array(found)


def example(name: str) -> dict[str, np.ndarray]:
    """Outputs as models of a family have them, with one detection of class 1 (0 where there is one class)."""
    three = (8, 16, 32)
    if name == "yunet":
        outputs = {}
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs |= {f"{kind}_{s}": a for s, a in zip(three, grid_list(three, (1, 1, 1), width), strict=True)}
        outputs["cls_16"][0, 3] = outputs["obj_16"][0, 3] = 0.9
        return outputs
    if name == "scrfd":
        outputs = {}
        for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
            outputs |= {f"{kind}_{s}": a for s, a in zip(three, grid_list(three, (2, 2, 2), width), strict=True)}
        outputs["score_8"][0, 3] = 0.9
        outputs["bbox_8"] += 1
        return outputs
    if name == "fcos":
        outputs = {}
        for kind, width in (("cls", 2), ("bbox", 4), ("centerness", 1)):
            for s in (8, 16, 32, 64, 128):
                outputs[f"{kind}_{s}"] = np.full((1, width, -(-SIZE[0] // s), -(-SIZE[1] // s)), -9.0)
        outputs["cls_16"][0, 1, 2, 3] = outputs["centerness_16"][0, 0, 2, 3] = 9
        for s in (8, 16, 32, 64, 128):
            outputs[f"bbox_{s}"][:] = 1
        return outputs
    if name == "fastestdet":
        grid = np.zeros((1, 7, 4, 6), np.float32)
        grid[:, 5:] = 0.5
        grid[0, :, 1, 2] = [1, 0, 0, 0, 0, 0, 1]
        return {"758": grid}
    if name == "blazeface":
        regressors = np.concatenate(grid_list((8, 16), (2, 6), 16), 1)
        classes = np.full((*regressors.shape[:2], 1), -9.0)
        classes[0, 5], regressors[..., 2:4] = 9, 20
        return {"regressors": regressors, "classificators": classes}
    if name == "yolov3":
        outputs = {f"o{s}": np.full((1, 21, SIZE[0] // s, SIZE[1] // s), 0.0) for s in three}
        for array in outputs.values():
            array[:, 4::7] = -9
        outputs["o16"][0, 7:14, 1, 2] = [0, 0, 0, 0, 9, -9, 9]
        return outputs
    rows = centres(three, {"yolov5": 3}.get(name, 1))
    rest = np.zeros((len(rows), 3 if name in ("yolox", "yolov5") else 2))
    rest[7] = [0.95, 0.1, 0.9][3 - rest.shape[1] :]
    if name == "yolox":
        rows = np.zeros_like(rows)
    if name in ("yolox", "yolov5", "yolov8"):
        table = np.concatenate((rows, rest), 1)[None]
        return {"out": table.transpose(0, 2, 1) if name == "yolov8" else table}
    corners = np.stack((rows[:, 0] - 10, rows[:, 1] - 5, rows[:, 0] + 10, rows[:, 1] + 5), 1)
    relative = (corners / [96, 64, 96, 64])[None]
    if name == "ssd":
        scores = np.tile([1.0, 0.0], (1, len(rows), 1))
        scores[0, 7] = [0.1, 0.9]
        return {"boxes": relative, "scores": scores}
    if name == "nms-tensorflow":
        scores, classes = np.zeros((1, len(rows))), np.ones((1, len(rows)))
        scores[0, 0] = 0.9
        return {
            "detection_boxes": relative[..., [1, 0, 3, 2]], "detection_scores": scores, "detection_classes": classes,
            "num_detections": np.array([100.0]),
        }  # fmt: skip
    last = np.zeros((len(rows), 2))
    last[7] = [0.9, 1]
    if name == "nms-rows":
        return {"out": np.concatenate((corners, last), 1)[None, :50]}
    return {"out": np.concatenate((np.zeros((len(rows), 1)), corners, last[:, ::-1]), 1)[:50]}


@pytest.mark.parametrize("name", BUILT_IN)
def test_auto_chooses_the_one_profile_that_fits(name):
    outputs = example(name)
    assert choose_profile("auto", outputs, SIZE, "net").name == name
    found = decode(load_profile(name), outputs, SIZE)
    assert len(found) == 1
    assert found.classes.tolist() == [0 if name in ("yunet", "scrfd", "blazeface") else 1]
    width, height = (found.boxes[0, 2:] - found.boxes[0, :2]).tolist()
    expected = {
        "fastestdet": (48, 32), "fcos": (32, 32), "yunet": (16, 16), "scrfd": (16, 16), "blazeface": (20, 20),
        "yolov3": (62, 45), "yolox": (8, 8),
    }  # fmt: skip
    assert (width, height) == pytest.approx(expected.get(name, (20, 10)), abs=1e-4)
    points = {"yunet": 5, "scrfd": 5, "blazeface": 6}.get(name, 0)
    assert found.points.shape == (1, points, 2)


def test_models_that_end_in_nms_may_find_nothing():
    assert len(decode(load_profile("nms-rows-batched"), {"out": np.zeros((0, 7))}, SIZE)) == 0
    assert choose_profile("auto", {"out": np.zeros((0, 7))}, SIZE, "net").name == "nms-rows-batched"


def test_decoded_boxes_are_not_taken_for_coded_ones():
    outputs = example("yolov8")
    table = outputs["out"].transpose(0, 2, 1)
    as_yolox = {"out": np.concatenate((table[..., :4], np.full((1, table.shape[1], 1), 0.5), table[..., 4:]), -1)}
    assert misfit(load_profile("yolox"), as_yolox, SIZE) in ("boxes are not finite", "boxes lie far from their cells")


def test_no_profile_fits_and_what_to_write_is_said():
    outputs = {"probs": np.full((1, 50, 3), 7.0), "rects": np.zeros((1, 50, 4))}
    with pytest.raises(CannotHandle, match="net: no built-in profile decodes outputs probs") as refused:
        choose_profile("auto", outputs, SIZE, "net")
    text = str(refused.value)
    assert 'boxes = {outputs = ["rects"], code = "..."} and scores = {outputs = ["probs"]}' in text
    assert text.endswith("and give it with --decode")
    written = profile('boxes = {outputs = ["rects"]}\nscores = {outputs = ["probs"], activation = "softmax"}')
    assert len(decode(written, outputs, SIZE)) == 0
    with pytest.raises(CannotHandle, match=r'\["out"\], channels = \[0, 4\], code'):
        choose_profile("auto", {"out": np.full((1, 5, 9), 7.0)}, SIZE, "net")


def test_two_profiles_fit_and_both_are_named(monkeypatch):
    monkeypatch.setattr("aarewrite.verification.decode.BUILT_IN", ("yolox", "yolox"))
    with pytest.raises(CannotHandle, match=r"profiles yolox and yolox fit outputs .*; give one of them with --decode"):
        choose_profile("auto", example("yolox"), SIZE, "net")


TWO = '[boxes]\noutputs = ["b"]\n[scores]\noutputs = ["s"]\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TWO.replace('"b"', '"box*"'), r"\[boxes\]: no output is called box\*; there are b \(1, 9, 4\), s"),
        (TWO.replace('"b"', '"s"'), r"\[boxes\]: 2 values a box, not 4"),
        (TWO.replace('"b"', '"*"'), r"\[boxes\]: several outputs fit: b \(1, 9, 4\), s \(1, 9, 2\)"),
        (TWO.replace('"s"', '"raw"'), r'values from -3 to -3 are no probabilities; write activation = "sigmoid"'),
        (TWO.replace('"s"]', '"s"]\nchannels = [1, 3]'), r"channels \[1, 3\] of 2"),
        ("strides = [8]\n" + TWO, r"no output can be read as nac with grids of 8x12x1 predictions: s"),
        (TWO.replace('"s"]', '"s"]\nlayout = "ac"'), "no output can be read as ac"),
        (TWO.replace('"s"', '"short"'), "numbers of predictions differ: 3 of .scores., 9 of .boxes."),
        ("strides = [8]\nanchors = [[[1, 1], [2, 2]]]\n" + TWO, "2 anchors a cell"),
        (TWO + '[keypoints]\noutputs = ["b"]\nstep = 3', "4 values are no multiple of step = 3"),
        (TWO.replace('"s"]', '"s"]\nbackground = 2'), "background = 2 of 2 classes"),
        (TWO.replace('"s"]', '"half"]\ndistribution = true'), "do not sum to 1"),
    ],
)
def test_a_profile_that_does_not_fit_says_why(text, reason):
    outputs = {
        "b": np.zeros((1, 9, 4)), "s": np.full((1, 9, 2), 0.5), "short": np.zeros((1, 3, 1)),
        "half": np.full((1, 9, 2), 0.2), "raw": np.full((1, 9, 2), -3.0),
    }  # fmt: skip
    kept = {name: array for name, array in outputs.items() if name in ("b", "s") or f'"{name}"' in text}
    with pytest.raises(CannotHandle, match=reason):
        decode(profile(text), kept, SIZE)


def test_lists_are_told_from_maps_and_vectors():
    assert [is_list(np.zeros(shape)) for shape in ((1, 9, 4), (9, 7), (1, 7), (1, 3, 8, 8), (9, 5))] == [
        True, True, False, False, False,
    ]  # fmt: skip
