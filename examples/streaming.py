"""Three streams: a WAV file, a signal like an electrocardiogram, a panorama.

    python examples/streaming.py [FILE.wav]

Each sample model becomes a streaming one, which is fed new samples as they come; its answers are those of the original
on every window.
"""

from __future__ import annotations

import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import aarewrite

MODELS = Path(__file__).parents[1] / "sample_models"


def wav_file(path: Path) -> Iterator[int]:
    """The class of every window of 128 samples, 16 samples apart, of a WAV file (16 bit, its first channel)."""
    session = aarewrite.StreamingSession(aarewrite.stream(MODELS / "conv1d.onnx", step=16).model)
    with wave.open(str(path), "rb") as stream:
        while data := stream.readframes(1000):  # any number of samples at a time
            samples = np.frombuffer(data, "<i2")[:: stream.getnchannels()].astype(np.float32) / 2**15
            for outputs in session.push(samples[None, None]):
                yield int(outputs["logits"].argmax())


def electrocardiogram(beats: int = 12) -> Iterator[int]:
    """The class of every window of a signal with a beat about every 100 samples, sample by sample."""
    session = aarewrite.StreamingSession(aarewrite.stream(MODELS / "conv1d.onnx", step=16).model)
    rng = np.random.default_rng(0)
    time = np.arange(100 * beats)
    signal = 0.05 * rng.standard_normal(len(time))
    for at in 50 + 100 * np.arange(beats) + rng.normal(0, 5, beats):
        signal += np.exp(-(((time - at) / 3) ** 2)) - 0.3 * np.exp(-(((time - at - 12) / 8) ** 2))
    for sample in signal.astype(np.float32):
        for outputs in session.push(np.full((1, 1, 1), sample)):
            yield int(outputs["logits"].argmax())


def panorama() -> Iterator[tuple[int, int]]:
    """The class at every fourth column of a picture 32 pixels high that is made of digits, column by column."""
    digits = np.load(MODELS / "digits_eval.npz")["x"][:20, 0, 4:36, 4:36]
    picture = (np.concatenate(list(digits), axis=1) / 255).astype(np.float32)[None, None]
    session = aarewrite.StreamingSession(aarewrite.stream(MODELS / "vgg.onnx", step=4, axis=3).model)
    for column in range(picture.shape[3]):
        for outputs in session.push(picture[:, :, :, column : column + 1]):
            yield column - 31, int(outputs["logits"].argmax())


def tone(path: Path) -> Path:
    """A WAV file of a second that rises from 200 to 2000 Hz."""
    time = np.arange(8000) / 8000
    values = np.sin(2 * np.pi * (200 * time + 900 * time**2)) * 2**14
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 8000, 0, "NONE", ""))
        stream.writeframes(values.astype("<i2").tobytes())
    return path


def main() -> None:
    """Print what every stream gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else tone(Path(folder, "tone.wav"))
        print("WAV file:", *wav_file(path))
    print("electrocardiogram:", *electrocardiogram())
    print("panorama:", *(f"{column}:{digit}" for column, digit in panorama()))


if __name__ == "__main__":
    main()
