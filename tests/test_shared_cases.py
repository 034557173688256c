"""Small models with constructs of public bug reports: each comes out as its note says is right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import aa
from reference import ONNXRUNTIME

import aarewrite

CASES = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parents[2] / "shared")) / "cases"
# rewritten and kept sites; and what the reason of the last kept one says
EXPECTED = {
    "01-nms-in-graph": (2, 1, "first conv"),
    "02-topk-indices": (2, 1, "first conv"),
    "03-seg-argmax": (2, 1, "first conv"),
    "04b-random-seeded": (2, 1, "first conv"),
    "05-nonzero-keypoints": (2, 1, "first conv"),
    "05b-nonzero-points": (2, 1, "first conv"),
    "06b-maxpool-k1-s2-ceil-odd": (1, 0, ""),
    "06c-maxpool-k1-s2-ceil-opset22": (1, 0, ""),
    "06d-maxpool-k2-pad1-ceil": (1, 1, "first conv"),
    "07-avgpool19-same-lower-cip": (1, 0, ""),
    "07b-avgpool17-same-upper-cip": (1, 0, ""),
    "07c-avgpool22-same-upper": (1, 0, ""),
    "07e-avgpool17-ceil-cip": (0, 1, "ceil_mode=1 with count_include_pad=1"),
    "07g-avgpool19-ceil-nocip": (1, 0, ""),
    "08-maxpool3d-ceil-pad": (1, 0, ""),
    "10-zipmap-output": (2, 1, "first conv"),
    "12-qdq-int16-opset21": (0, 2, "a map of int16: blurs take floats, int8 and uint8"),
    "12d-qdq-no-zero-point": (2, 0, ""),
    "12e-qdq-uint8-msdomain": (2, 0, ""),
    "13-ai.onnx-domain": (2, 1, "first conv"),
    "15-reorg-reshape": (2, 1, "first conv"),
    "24-unshuffle-unfold-ts": (1, 0, ""),
    "25-wav2vec-stack": (4, 1, "first conv"),
    "33-minus-one-dims": (3, 1, "first conv"),
    "33b-same-named-dims": (3, 1, "first conv"),
    "33c-minus-one-same-ceil": (0, 2, "ceil_mode=1 over a symbolic size"),
}
TAKEN_FROM = {"12d-qdq-no-zero-point": (1, 31)}  # the ONNX Runtime that loads the original itself
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")


@pytest.mark.parametrize("name", EXPECTED)
def test_case_is_rewritten_and_proven_or_kept_for_its_reason(name: str) -> None:
    if TAKEN_FROM.get(name, ONNXRUNTIME) > ONNXRUNTIME:
        pytest.skip("this ONNX Runtime does not load the original")
    result = aarewrite.rewrite(CASES / f"{name}.onnx")
    rewritten, kept, reason = EXPECTED[name]
    reasons = [planned.reason for planned in result.plan.sites if not planned.match]
    assert (len(result.plan.rewrites), len(reasons)) == (rewritten, kept)
    assert reason in (reasons or [""])[-1]
    assert (result.proof is not None) == bool(rewritten)
    assert not aarewrite.plan(result.model).changes


@pytest.mark.parametrize("name", ["all_nan_proof", "inf_w2", "nan_w"])
def test_a_proof_of_nothing_is_none(name: str) -> None:
    outcome = aa("rewrite", CASES / "hostile" / f"{name}.onnx", "-o", "-")
    assert outcome.status == 1
    assert "identity proof: nothing was compared" in outcome.err
