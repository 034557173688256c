"""The report as a value: what fails it, and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from small_nets import phase_classifier, save, stripes

from aarewrite.errors import CheckFailed
from aarewrite.verification import verify
from aarewrite.verification.statistics import Proportion


@pytest.fixture
def report(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(3))
    return verify(phase_classifier(), data, protocols=("circular", "crop"), names=("net", ""))


def test_json_holds_every_field_and_no_nan(report):
    consistency = replace(report.classification[0], consistency=Proportion.of(0, 0))
    found = json.loads(replace(report, classification=(consistency,)).to_json())
    assert found["classification"][0]["consistency"] == {
        "value": None, "successes": 0, "n": 0, "low": None, "high": None,
    }  # fmt: skip
    assert found["passed"] is True
    assert found["versions"]["numpy"] == np.__version__
    assert "pictures" not in json.dumps(found)
    assert report.protocols == ("circular", "crop")


def test_the_first_failure_is_raised_and_the_others_counted(report):
    failed = replace(report, failures=("one", "two", "three"))
    assert not failed.passed
    with pytest.raises(CheckFailed, match=r"^one \(and 2 more\)"):
        failed.raise_for_failures()
    report.raise_for_failures()
