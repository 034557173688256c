"""A benchmark's shape: which models, on what input, and whose nodes. No test depends on a time."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.timing.bench import Bench


def strided(*dims: int | str) -> onnx.ModelProto:
    sizes = ", ".join(map(str, dims))
    return build(
        f"""(float[{sizes}] x) => (float[] y) {{
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        [relu] y = Relu(a)
    }}""",
        w=weight(16, 16, 3, 3),
    )


def nodes(found: Bench) -> dict[str, tuple[int, int]]:
    return {row.operator: row.nodes for row in found.operators}


def test_a_model_alone() -> None:
    found = aarewrite.bench(strided(1, 16, 16, 16), threads=1, rounds=3)
    assert (found.threads, found.rounds, found.provider) == (1, 3, "cpu")
    assert found.model.input_shapes == {"x": (1, 16, 16, 16)}
    assert found.model.milliseconds.median > 0
    assert (found.against, found.ratio, found.noise) == (None, None, None)
    assert nodes(found)["Conv"] == (0, 1)  # its Relu is part of it
    assert all(row.milliseconds[0] == 0 < row.milliseconds[1] for row in found.operators)


def test_a_rewritten_model_beside_its_original() -> None:
    model = strided(1, 16, 16, 16)
    rewritten = aarewrite.rewrite(model, first_conv=True, pad="edge").model
    found = aarewrite.bench(rewritten, model, threads=1, rounds=3)
    assert found.ratio is not None
    assert found.noise is not None
    assert nodes(found)["Conv"] == (1, 2)
    added = next(row for row in found.nodes if "dense" in row.operator)
    assert added.nodes == (0, 1)
    assert added.added == added.milliseconds[1] > 0
    ordered = [abs(row.added) for row in found.operators]
    assert ordered == sorted(ordered, reverse=True)
    assert sum(row.milliseconds[1] for row in found.nodes) == pytest.approx(
        sum(row.milliseconds[1] for row in found.operators)
    )
    table = json.loads(json.dumps(found.to_dict()))
    assert table["format"] == 1
    assert set(table["ratio"]) == {"median", "quartiles", "interval"}


def test_open_sizes() -> None:
    model = strided("n", 16, "h", "w")
    assert aarewrite.bench(model, rounds=2).model.input_shapes == {"x": (1, 16, 224, 224)}
    given = aarewrite.bench(model, model, rounds=2, input_shapes={"x": (2, 16, 9, 7)})
    assert given.model.input_shapes == {"x": (2, 16, 9, 7)}
    assert given.against is not None
    assert given.against.input_shapes == {"x": (2, 16, 9, 7)}


def test_each_model_gets_input_of_its_own_size() -> None:
    found = aarewrite.bench(strided(1, 16, 20, 20), strided(1, 16, 16, 16), rounds=2)
    assert found.model.input_shapes == {"x": (1, 16, 20, 20)}
    assert found.against is not None
    assert found.against.input_shapes == {"x": (1, 16, 16, 16)}


def test_an_open_model_is_timed_at_the_size_of_the_other() -> None:
    found = aarewrite.bench(strided("n", 16, "h", "w"), strided(1, 16, 16, 16), rounds=2)
    assert found.model.input_shapes == {"x": (1, 16, 16, 16)}


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(strided(1, 16, 16, 16), path, save_as_external_data=True, size_threshold=0)
    assert aarewrite.bench(path, rounds=2).model.model == "m.onnx"


def test_errors() -> None:
    with pytest.raises(UsageError, match="provider 'tpu' is not one of cpu, cuda"):
        aarewrite.bench(strided(1, 16, 16, 16), provider="tpu")
    with pytest.raises(CannotHandle, match="ONNX Runtime cannot run"):
        aarewrite.bench(strided("n", 16, "h", "w"), input_shapes={"x": (1, 4, 8, 8)}, rounds=2)
