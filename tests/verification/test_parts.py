"""Shares of a run add up to the run, bit for bit; what does not belong together is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from command import aa, failed
from small_nets import COLOUR, blurred_classifier, parse, phase_classifier, save, stripes, subsample_map

from aarewrite.errors import UsageError
from aarewrite.verification import verify
from aarewrite.verification.job import Asked
from aarewrite.verification.parts import measure_part, merge, parse_shard, read_part


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two models and 37 samples of noise, some of whose classes flip."""
    monkeypatch.chdir(tmp_path)
    onnx.save(phase_classifier(), "before.onnx")
    onnx.save(blurred_classifier(), "after.onnx")
    noise = np.random.default_rng(1).uniform(0, 1, (37, 1, 20, 20)).astype(np.float32)
    save(tmp_path / "d.npz", x=noise + stripes(37) * 0.05, labels=np.arange(37) % 2)
    return tmp_path


def verified(*options: object) -> list[object]:
    return ["verify", "after.onnx", "--against", "before.onnx", "--data", "d.npz", "--layers", *options]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_shares_merged_are_the_single_run_bit_for_bit(files, count):
    options = ("--protocol", "crop,circular", "--crop-pairs", 3)
    assert aa(*verified(*options, "--json", "whole.json", "--report", "whole.html")).status == 0
    for k in range(1, count + 1):
        result = aa(*verified(*options, "--shard", f"{k}/{count}", "--json", f"part{k}.json"))
        assert result.out.startswith(f"wrote part{k}.json: ")
    parts = [f"part{k}.json" for k in reversed(range(1, count + 1))]
    result = aa("merge", *parts, "--json", "sum.json", "--report", "sum.html")
    assert (result.status, result.err) == (0, "")
    assert (files / "sum.json").read_bytes() == (files / "whole.json").read_bytes()
    assert (files / "sum.html").read_bytes() == (files / "whole.html").read_bytes()
    found = json.loads((files / "whole.json").read_text())
    assert found["n"] == 37
    assert len(found["flips"]) == 6  # they do differ from sample to sample
    assert 0 < found["flip_counts"]["only_against_flips"] < 37


def test_photographs_with_a_broken_one_and_pairs(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "05.png").write_text("hello")
    (folder / "pairs.csv").write_text("file_a,file_b\n" + "".join(f"{i:02}.png,{i + 1:02}.png\n" for i in range(11)))
    onnx.save(parse(COLOUR), "net.onnx")
    asked = Asked("net.onnx", "images", own_pairs="images/pairs.csv", conditions=("shift",))
    parts = [measure_part(asked, f"{k}/3") for k in (1, 2, 3)]
    whole = verify("net.onnx", "images", own_pairs="images/pairs.csv", conditions=("shift",))
    assert merge(parts).to_json() == whole.to_json()
    assert [odd.name for odd in whole.odd] == ["05.png", "04.png and 05.png", "05.png and 06.png"]
    assert (whole.n, whole.camera[0].n, whole.pairs[0].n) == (11, 11, 9)


def test_models_that_are_values_are_given_again():
    asked = Asked(subsample_map(), "synthetic:20", max_shift=2, names=("map", ""))
    parts = [measure_part(asked, f"{k}/2") for k in (1, 2)]
    whole = verify(subsample_map(), "synthetic:20", max_shift=2, names=("map", ""))
    assert merge(parts, model=subsample_map()).to_json() == whole.to_json()


def test_limits_are_judged_by_the_sum(files):
    measured = ("verify", "before.onnx", "--data", "d.npz", "--min-consistency", 1)
    for k in (1, 2):
        assert aa(*measured, "--shard", f"{k}/2", "--json", f"{k}.json").status == 0
    result = aa("merge", "1.json", "2.json")
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert "crop consistency of before.onnx is" in result.err


def test_parts_that_do_not_belong_together(files):
    for name, *options in (("a", "1/2"), ("b", "2/2"), ("c", "2/3"), ("d", "2/2", "--seed", 5)):
        aa(*verified("--shard", options[0], *options[1:], "--json", f"{name}.json"))
    failed(aa("merge", "a.json"), 2, "part 2/2 is missing")
    failed(aa("merge", "a.json", "b.json", "b.json"), 2, "part 2/2 is there twice (b.json, b.json)")
    failed(aa("merge", "a.json", "c.json"), 2, "c.json and a.json: not of one run (number differ)")
    failed(aa("merge", "a.json", "d.json"), 2, "not of one run (asked differ)")
    failed(aa("merge", "a.json", "d.npz"), 2, "d.npz: no partial result")
    failed(aa("merge", "gone.json"), 2, "gone.json: No such file")
    failed(aa("merge", "a.json", "b.json", "--json", "a.json"), 2, "a.json: is a part")
    onnx.save(phase_classifier(), "after.onnx")
    failed(aa("merge", "a.json", "b.json"), 2, "models are not those of a.json")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "a/4", "1/0", "-1/4"])
def test_what_is_no_share(text):
    with pytest.raises(UsageError, match="not a share"):
        parse_shard(text)


def test_a_share_needs_a_file_and_draws_no_page(files):
    failed(aa(*verified("--shard", "1/2")), 2, "--shard", "--json")
    failed(aa(*verified("--shard", "1/2", "--json", "a.json", "--report", "a.html")), 2, "exclude each other")


def test_a_part_on_stdout_is_only_that(files):
    result = aa(*verified("--shard", "2/2", "--json", "-"))
    (files / "x.json").write_text(result.out)
    assert read_part(files / "x.json").shard == 2


def test_no_parts():
    with pytest.raises(UsageError, match="no partial results"):
        merge([])
