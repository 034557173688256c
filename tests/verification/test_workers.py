"""A real Ray on this machine: the same figures as without it, and nothing lost with a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed
from small_nets import COLOUR, blurred_classifier, parse, phase_classifier, save, stripes

from aarewrite.errors import UsageError
from aarewrite.verification import verify
from aarewrite.verification.job import Asked, open_job
from aarewrite.verification.workers import spread


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(phase_classifier(), "before.onnx")
    onnx.save(blurred_classifier(), "after.onnx")
    noise = np.random.default_rng(1).uniform(0, 1, (61, 1, 20, 20)).astype(np.float32)
    save(tmp_path / "d.npz", x=noise + stripes(61) * 0.05)
    return tmp_path


def test_workers_find_what_one_process_finds(cluster, files):
    options = {"against": "before.onnx", "max_shift": 1}
    spreaded = verify("after.onnx", "d.npz", ray="auto", **options)
    assert spreaded.to_json() == verify("after.onnx", "d.npz", threads=1, **options).to_json()


def test_workers_read_a_bucket(cluster, folder, in_bucket):
    options = {"protocols": ("crop",), "names": ("net", ""), "max_shift": 1}
    spreaded = verify(parse(COLOUR), in_bucket(folder), ray="auto", **options)
    assert spreaded.data == "12 of 12 images in images"
    plain = verify(parse(COLOUR), folder, threads=1, **options)
    assert spreaded.to_json() == plain.to_json().replace(" in images/", " in images")


def workers() -> list[int]:
    """The processes of workers that descend from this one."""
    parents, found = dict[int, int](), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid in found if ours(pid)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_killing_a_worker_loses_nothing(cluster, files):
    """Both workers are killed while they measure: begun again, they find what is missing."""
    job = open_job(Asked("after.onnx", "d.npz", max_shift=1))
    found, killed = [], set()
    for one in spread(job, job.blocks(), "auto", lambda views: None):
        found.append(one.index)
        for pid in set(workers()) - killed if len(killed) < 2 else ():
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    assert len(killed) >= 2
    assert sorted(found) == list(range(61))


def test_what_a_worker_cannot_do_is_said_as_without_it(cluster, files):
    job = open_job(Asked("after.onnx", "d.npz", strict=True, max_shift=1))
    (files / "d.npz").unlink()
    with pytest.raises(UsageError, match=r"d\.npz: no such file"):
        list(spread(job, job.blocks(), "auto", lambda views: None))


def test_without_ray_the_install_line_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for arguments in (["after.onnx", "--ray"], ["--ray", "after.onnx"]):
        failed(aa("verify", *arguments), 3, "Ray is not installed; pip install 'aarewrite[ray]'")
