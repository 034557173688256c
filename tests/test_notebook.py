"""Reports in notebooks: every figure once, with what it is of; names as text; pandas where it is there."""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from command import small_net
from small_nets import blurred_classifier, detector, grid_profile, phase_classifier, save, scene, stripes, subsample_map

import aarewrite
from aarewrite.calibration.exposures import Changes
from aarewrite.calibration.judge import Drift, Verdict
from aarewrite.calibration.layers import LayerRepair
from aarewrite.calibration.run import Calibrated, Calibration
from aarewrite.calibration.search import Trial
from aarewrite.calibration.steady import Row, Steady
from aarewrite.errors import CannotHandle
from aarewrite.notebook import Record, Tabular, figures
from aarewrite.timing.bench import Bench, OperatorTime, Timed
from aarewrite.timing.rounds import Spread
from aarewrite.verification import VerifyReport, before_after, verify
from aarewrite.verification.statistics import Difference, Mean, Proportion


@pytest.fixture
def report(tmp_path) -> VerifyReport:
    data = save(tmp_path / "stripes.npz", x=stripes(6), labels=[1] * 6)
    return before_after(phase_classifier(), blurred_classifier(), data, protocols=("crop",), max_shift=2)


def test_records_are_the_figures_of_the_report(report):
    rows = report.records()
    after, before = report.classification
    (found,) = [row for row in rows if row["measure"] == "consistency" and row["model"] == "before"]
    share = before.consistency
    assert found == {
        "model": "before", "protocol": "crop", "measure": "consistency", "value": share.value, "low": share.low,
        "high": share.high, "n": 6,
    }  # fmt: skip
    points = {
        (row["direction"], row["distance"]): row["value"]
        for row in rows if row["measure"] == "share" and row["model"] == "after"
    }  # fmt: skip
    assert points == {(a.direction, a.distance): a.share.value for a in after.agreement}
    (change,) = [row for row in rows if row["measure"] == "crop consistency"]
    assert (change["value"], change["p"]) == (report.changes[0].change, report.changes[0].p)
    keys = [tuple(row.get(key) for key in ("model", "protocol", "direction", "distance", "measure")) for row in rows]
    assert len(set(keys)) == len(keys)


def test_a_notebook_shows_no_single_shifts(report):
    shown = report._repr_html_()
    assert "<caption>after against before, classify, on 6 of 6 samples" in shown
    assert "<td>worst_case</td>" in shown
    assert shown.count("<tr>") == 1 + len(report.headlines()) < len(report.records())
    assert not any(row.get("distance") for row in report.headlines())


def test_names_are_text_and_what_is_not_known_is_empty():
    class Odd(Tabular):
        def records(self) -> list[Record]:
            return [{"model": "<b>", "value": math.nan}, {"model": "c", "more": 0.123456, "value": None}]

        def caption(self) -> str:
            return "a & b"

    assert Odd()._repr_html_() == (
        "<table><caption>a &amp; b</caption><tr><th>model</th><th>value</th><th>more</th></tr>"
        "<tr><td>&lt;b&gt;</td><td></td><td></td></tr><tr><td>c</td><td></td><td>0.1235</td></tr></table>"
    )


def test_figures_of_what_lies_within_say_of_what():
    @dataclass(frozen=True)
    class Inner:
        share: Proportion
        steady: bool = True

    @dataclass(frozen=True)
    class Outer:
        model: str
        n: int
        count: int
        inside: Inner
        points: tuple[Inner, ...] = ()
        sizes: tuple[int, ...] = (3, 4)

    half = Proportion.of(1, 2)
    rows = list(figures(Outer("net", 5, 7, Inner(half), (Inner(half),))))
    assert [(row["model"], row["measure"], row["value"]) for row in rows] == [
        ("net", "count", 7), ("net", "inside share", 0.5), ("net", "share", 0.5),
    ]  # fmt: skip
    assert list(figures(Outer("net", 5, 7, Inner(half))))[1]["low"] == half.low
    assert Mean.of([1.0]).value == 1


def test_detectors_and_maps_have_records_too(tmp_path):
    data = scene(tmp_path, 32, [(10, 12, 0.9)])
    found = verify(detector(32), data, decode=grid_profile(tmp_path), max_shift=1)
    measures = {row["measure"] for row in found.records()}
    assert {"consistency", "jitter", "births", "detections", "largest_jitter"} <= measures
    noise = save(tmp_path / "noise.npz", x=np.random.default_rng(0).random((2, 1, 24, 24), np.float32))
    rows = verify(subsample_map(), noise, max_shift=1, names=("net", "")).records()
    assert {(row["output"], row["direction"]) for row in rows if row["measure"] == "psnr"} == {
        ("y", "all"), ("y", "horizontal"), ("y", "vertical"), ("y", "diagonal"),
    }  # fmt: skip


def test_a_rewrite_shows_its_sites(tmp_path):
    result = aarewrite.rewrite(small_net(tmp_path / "net.onnx"))
    assert [(row["op"], row["action"]) for row in result.records()] == [("Conv", "keep"), ("MaxPool", "blur")]
    assert result.records() == result.plan.records()
    assert "<caption>recipe aligned: 1 of 2 sites, " in result._repr_html_()
    assert "MaxPool stride 1x1" in result.plan._repr_html_()


def difference(name: str, before: float, after: float) -> Difference:
    return Difference(name, before, after, after - before - 1, after - before + 1, 0.01, 40)


def test_a_benchmark_shows_times_ratio_and_operators():
    spread = Spread(2.0, (1.5, 2.5), (1.9, 2.1))
    after, before = (Timed(name, spread, {"x": (1, 3, 8, 8)}) for name in ("after.onnx", "before.onnx"))
    conv, node = OperatorTime("Conv", (1, 2), (0.5, 1.25)), OperatorTime("stem (Conv)", (1, 1), (0.5, 0.75))
    found = Bench("cpu", 1, 15, after, before, spread, spread, (conv,), (node,))
    assert found.headlines() == [
        {"model": "after.onnx", "measure": "milliseconds", "value": 2.0, "low": 1.9, "high": 2.1},
        {"model": "before.onnx", "measure": "milliseconds", "value": 2.0, "low": 1.9, "high": 2.1},
        {"model": "after.onnx", "measure": "ratio", "value": 2.0, "low": 1.9, "high": 2.1},
        {"model": "before.onnx", "measure": "ratio", "value": 2.0, "low": 1.9, "high": 2.1},
        {"op": "Conv", "measure": "milliseconds", "value": 1.25, "before": 0.5},
    ]
    assert found.records()[5:] == [{"node": "stem (Conv)", "measure": "milliseconds", "value": 0.75, "before": 0.5}]
    assert "<caption>after.onnx against before.onnx, cpu, threads 1, 15 rounds, medians<" in found._repr_html_()
    alone = Bench("cuda", 0, 15, after, None, None, None, (conv,), ())
    assert alone.records()[1:] == [{"op": "Conv", "measure": "milliseconds", "value": 1.25}]
    assert alone.caption() == "after.onnx, cuda, threads all, 15 rounds, medians"


def test_the_steadiest_version_shows_its_candidates():
    changes = Changes(difference("near", 80, 82), difference("far", 70, 74), None)
    best = Row("half blur", 1.05, 1.1, changes)
    found = Steady((best, Row("ideal", reason="no")), best, None, changes, (40, 30, 30), "9 <b>", "unit", ("dear",))
    wide, ideal, confirmed = found.headlines()
    assert wide == {
        "candidate": "half blur", "cost": 1.05, "latency": 1.1, "near": "+2.00 [+1.00, +3.00]",
        "far": "+4.00 [+3.00, +5.00]", "found": "better",
    }  # fmt: skip
    assert ideal == {"candidate": "ideal", "cost": None, "latency": None, "found": "no"}
    assert confirmed["found"] == "on other images"
    assert "<caption>chose half blur on 9 &lt;b&gt;; changes in points; dear</caption>" in found._repr_html_()
    far = {"measure": "far", "value": 4, "low": 3, "high": 5, "n": 40, "p": 0.01}
    of = {"candidate": "half blur"}
    assert [of | {"images": images} | far for images in ("compared", "confirmed")] == [
        row for row in found.records() if row["measure"] == "far"
    ]
    assert {"candidate": "half blur", "measure": "latency", "value": 1.1} in found.records()


def test_a_calibration_shows_its_judgement(tmp_path):
    verdict = Verdict(10, "crop", 5, difference("far", 70, 72), difference("near", 80, 81), 0.9)
    layer, trial = (
        LayerRepair("c1", "Conv", 0.5, 0.25, 0.5, 0.2, 0.1),
        Trial((("c1", "1/2"),), 1.1, 0.8, 0.05, True, ""),
    )
    rewritten = aarewrite.rewrite(small_net(tmp_path / "net.onnx"))
    outcome = Calibration(onnx.ModelProto(), (layer,), 20, 10, verdict, None, (("0,0 1,1", verdict),))
    found = Calibrated(outcome, rewritten, "30 images", "unit", (trial,), failures=("no better",))
    far = {"before": 70, "after": 72, "measure": "far", "value": 2, "low": 1, "high": 3, "n": 40, "p": 0.01}
    rows = found.headlines()
    assert rows[0] == far
    assert rows[2] == {"against": "two views, 0,0 1,1"} | far
    assert rows[4:] == [
        {"measure": "agreement", "value": 0.9}, {"measure": "cost", "value": rewritten.plan.cost}
    ]  # fmt: skip
    more = found.records()[len(rows) :]
    assert {"name": "c1", "measure": "after", "value": 0.25} in more
    assert {"tried": "c1: 1/2", "measure": "noise", "value": 0.8} in more
    assert "<caption>1 of 1 layers repaired on 20 samples of 30 images, judged on 10 held out; no better<" in (
        found._repr_html_()
    )
    moved = replace(found, outcome=replace(outcome, verdict=None, beside=(), drift=Drift(0.5, 0.25, 0.1, (1, 1))))
    assert moved.headlines()[:2] == [
        {"measure": "drift", "before": 0.5, "after": 0.25, "value": -0.25}, {"measure": "apart", "value": 0.1}
    ]  # fmt: skip


def test_without_pandas_the_next_step_is_said(report, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "pandas":
            raise ImportError
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CannotHandle, match="to_dataframe needs pandas, which is not installed; pip install pandas"):
        report.to_dataframe()


def test_a_dataframe_has_a_row_a_figure(report):
    pytest.importorskip("pandas")
    frame = report.to_dataframe()
    assert len(frame) == len(report.records())
    top = frame[(frame.measure == "consistency") & (frame.model == "before")]
    assert top.value.item() == report.classification[1].consistency.value
