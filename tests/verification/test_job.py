"""What a verification is asked for, opens, and counts."""

from __future__ import annotations

import json

import onnx
import pytest
from small_nets import phase_classifier, save, stripes

from aarewrite.errors import UsageError
from aarewrite.verification.job import Asked, open_job


@pytest.fixture
def asked(tmp_path):
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    return Asked(tmp_path / "net.onnx", save(tmp_path / "d.npz", x=stripes(19)), max_shift=1)


def test_blocks_are_measured_apart_as_together(asked):
    """What is found in a block is the same whichever blocks are measured with it."""
    job = open_job(asked)
    blocks = job.blocks()
    assert [len(block) for block in blocks] == [8, 8, 3]
    together = list(job.measure(blocks))
    apart = [found for block in reversed(blocks) for found in open_job(asked).measure([block])]
    assert sorted(apart, key=lambda found: found.index) == together
    study = job.rounds[0][1][0]
    assert job.views(blocks[1:]) == sum(study.count(i) for i in range(8, 19))


def test_identity_tells_models_samples_and_options(asked, tmp_path):
    first = open_job(asked).identity()
    assert json.loads(json.dumps(first)) == first
    assert first["asked"]["model"] == str(tmp_path / "net.onnx")
    assert open_job(asked).identity() == first
    save(tmp_path / "d.npz", x=stripes(18))
    assert open_job(asked).identity()["samples"] != first["samples"]
    onnx.save(phase_classifier(batch=1), tmp_path / "net.onnx")
    assert open_job(asked).identity()["models"] != first["models"]


def test_nothing_found_is_no_result(asked):
    job = open_job(asked)
    with pytest.raises(UsageError, match="none of 19 of 19 samples"):
        job.count([])
