"""Signals of one's own: WAV files of every width, arrays of every form, and what does not fit."""

import wave

import numpy as np
import pytest

from aarewrite.errors import UsageError
from aarewrite.streaming.proof import Steps
from aarewrite.streaming.recordings import open_signal

STEPS = Steps({"x": 2}, 8, 2, {}, 4)
WINDOW = {"x": np.zeros((1, 2, 8), np.float32)}


def wav(path, values, width: int, channels: int = 1):
    with wave.open(str(path), "wb") as stream:
        stream.setparams((channels, width, 16000, 0, "NONE", ""))
        whole = np.round(np.asarray(values) * 2.0 ** (8 * width - 1)).astype("<i8").reshape(-1)
        whole = whole + 128 if width == 1 else whole
        stream.writeframes(whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes())
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_files(tmp_path, width: int) -> None:
    values = np.array([0, 0.5, -0.5, 0.25, -1, 0, 0.125, 0.75, 0, 0, 0.5])
    found = open_signal(wav(tmp_path / "a.wav", values, width), STEPS, WINDOW)["x"]
    assert found.shape == (1, 2, 10)
    assert found.dtype == np.float32
    assert found[0, 0].tolist() == found[0, 1].tolist() == values[:10].tolist()
    two = np.stack([values, -values / 2], 1)
    stereo = open_signal(wav(tmp_path / "b.wav", two, width, 2), STEPS, WINDOW)["x"]
    assert stereo[0, 1].tolist() == (-values[:10] / 2).tolist()


def test_arrays(tmp_path) -> None:
    rng = np.random.default_rng(0)
    long, samples = rng.standard_normal((1, 2, 21)), rng.standard_normal((5, 2, 9))
    np.savez(tmp_path / "a.npz", x=long)
    assert np.allclose(open_signal(tmp_path / "a.npz", STEPS, WINDOW)["x"], long[:, :, :20])
    np.save(tmp_path / "b.npy", long[0])
    assert np.allclose(open_signal(tmp_path / "b.npy", STEPS, WINDOW)["x"], long[:, :, :20])
    np.savez(tmp_path / "c.npz", images=samples, labels=np.arange(5))
    found = open_signal(tmp_path / "c.npz", STEPS, WINDOW)["x"]
    assert found.shape == (1, 2, 44)
    assert np.allclose(found[:, :, 9:18], samples[1])
    several = Steps({"x": 2, "z": 1}, 8, 2, {}, 4)
    np.savez(tmp_path / "d.npz", x=long, z=long[:, 0])
    both = open_signal(tmp_path / "d.npz", several, WINDOW | {"z": np.zeros((1, 8))})
    assert {name: value.shape for name, value in both.items()} == {"x": (1, 2, 20), "z": (1, 20)}


def test_what_does_not_fit(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 3, 20)))
    np.savez(tmp_path / "short.npz", x=np.zeros((1, 2, 9)))
    np.savez(tmp_path / "named.npz", q=np.zeros(3), r=np.zeros(3))
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    (tmp_path / "no.npz").write_bytes(b"PK")
    for name, text in [
        ("a.npz", "1x3x20 does not fit 1x2x8; let it be longer along axis 2 alone"),
        ("short.npz", "8 samples are no long signal for a window of 8"),
        ("named.npz", "no array 'x'; it has q, r"),
        ("no.wav", "not a WAV file"),
        ("no.npz", "not an .npz or .npy file"),
        ("none.npz", "no such file"),
    ]:
        with pytest.raises(UsageError, match=text):
            open_signal(tmp_path / name, STEPS, WINDOW)
