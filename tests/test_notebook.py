"""Reports in notebooks: every figure once, with what it is of; names as text; pandas where it is there."""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass

import numpy as np
import pytest
from command import small_net
from small_nets import blurred_classifier, detector, grid_profile, phase_classifier, save, scene, stripes, subsample_map

import aarewrite
from aarewrite.errors import CannotHandle
from aarewrite.notebook import Record, Tabular, figures
from aarewrite.verification import VerifyReport, before_after, verify
from aarewrite.verification.statistics import Mean, Proportion


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
