"""A log of what was found: from where it stops, and only of the same run."""

from __future__ import annotations

import json

import pytest
from small_nets import phase_classifier, save, stripes

from aarewrite.errors import UsageError
from aarewrite.verification import resume, verify
from aarewrite.verification.job import Asked, Job, open_job
from aarewrite.verification.measure import measure
from aarewrite.verification.records import Found
from aarewrite.verification.resume import Log


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(resume, "PATIENCE", 0)


def test_what_takes_no_time_leaves_no_file(tmp_path):
    log = Log(tmp_path / "log", {"a": 1})
    assert [found.index for found in log.keep(iter([Found(1, "", [])]))] == [1]
    assert not (tmp_path / "log").exists()


def test_lines_are_kept_until_it_stops(tmp_path, at_once):
    def stopping():
        yield Found(0, "", [[("x", 0.1)]])
        yield Found(1, "CMYK", None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Log(tmp_path / "log", {"a": 1}).keep(stopping()))
    with (tmp_path / "log").open("a") as file:
        file.write('[0, 2, "", [[["x"')  # killed while it wrote
    again = Log(tmp_path / "log", {"a": 1})
    assert again.found == [Found(0, "", [[("x", 0.1)]]), Found(1, "CMYK", None)]
    assert Log(tmp_path / "log", {"a": 2}).found == []
    list(again.keep(iter([Found(2, "", [])])))
    assert [json.loads(line)[1] for line in (tmp_path / "log").read_text().splitlines()[1:]] == [0, 1, 2]


def test_a_run_goes_on_where_it_was_stopped(tmp_path, at_once, monkeypatch):
    data = save(tmp_path / "d.npz", x=stripes(30))
    options = {"names": ("net", ""), "resume": tmp_path / "log", "max_shift": 1}
    job = open_job(Asked(phase_classifier(), data, **options))
    stream = measure(job, job.blocks())
    for _ in range(19):  # two blocks and a part of the third
        next(stream)
    stream.close()
    measured = []
    ours = Job.measure
    monkeypatch.setattr(Job, "measure", lambda job, blocks, _: (measured.extend(blocks), ours(job, blocks))[1])
    resumed = verify(phase_classifier(), data, **options)
    assert [len(block) for block in measured] == [8, 6]
    assert resumed.to_json() == verify(phase_classifier(), data, names=("net", ""), max_shift=1).to_json()


def test_a_place_that_cannot_be_written(tmp_path, at_once):
    with pytest.raises(UsageError, match="cannot be written"):
        list(Log(tmp_path / "no" / "log", {}).keep(iter([Found(0, "", [])])))
