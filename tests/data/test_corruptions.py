"""Corruptions: at severity 0 nothing, then more and more, always the same; what each does where it can be counted."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from aarewrite.data.corruptions import KINDS, NOISES, SEVERITIES, corrupted
from aarewrite.data.noise import pink_noise
from aarewrite.errors import CannotHandle

pytest.importorskip("PIL")
PICTURE = np.clip(pink_noise((3, 48, 40), (0, 0), (1, 2)) * 40 + 120, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_more_of_the_same_with_every_severity(kind):
    spoilt = [corrupted(PICTURE, kind, severity, (0, 7)) for severity in (0, *SEVERITIES)]
    assert spoilt[0] is PICTURE
    assert {one.shape for one in spoilt} == {PICTURE.shape}
    assert {one.dtype for one in spoilt} == {np.dtype(np.uint8)}
    far = [distance(PICTURE, one) for one in spoilt]
    assert all(second > first for first, second in pairwise(far)), far
    assert far[1] > 1
    again = corrupted(PICTURE, kind, 3, (0, 7))
    assert np.array_equal(again, spoilt[3])
    between = distance(PICTURE, corrupted(PICTURE, kind, 1 / 3, (0, 7)))
    assert between <= far[1]


@pytest.mark.parametrize("kind", KINDS)
def test_grey_pictures(kind):
    assert corrupted(PICTURE[..., :1], kind, 2, (0, 7)).shape == (48, 40, 1)


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_drawn_anew_for_another_seed(kind):
    assert distance(corrupted(PICTURE, kind, 1, (0, 7)), corrupted(PICTURE, kind, 1, (0, 8))) > 1


def test_blurs_keep_flat_pictures_and_the_mean():
    flat = np.full((48, 40, 3), 90, np.uint8)
    for kind in (kind for kind in KINDS if kind.endswith("blur")):
        assert np.array_equal(corrupted(flat, kind, 5, (0, 0)), flat)
        assert abs(float(corrupted(PICTURE, kind, 3, (0, 0)).mean()) - float(PICTURE.mean())) < 4


def test_amounts_that_can_be_counted():
    grey = np.full((200, 200, 1), 128, np.uint8)
    assert corrupted(grey, "gaussian noise", 2, (0, 0)).std() == pytest.approx(0.08 * 255, rel=0.03)
    assert (corrupted(grey, "impulse noise", 3, (0, 0)) != 128).mean() == pytest.approx(0.06, rel=0.05)
    shot = corrupted(grey, "shot noise", 1, (0, 0))
    assert shot.std() == pytest.approx(255 * (0.01 * 128 / 255) ** 0.5, rel=0.03)
    assert corrupted(grey, "brightness", 2, (0, 0)).max() == 179
    edge = np.zeros((8, 8, 1), np.uint8)
    edge[:, 4:] = 200
    assert np.unique(corrupted(edge, "contrast", 2, (0, 0))).tolist() == [50, 150]
    assert len(np.unique(corrupted(PICTURE[..., :1], "pixelate", 5, (0, 0)))) <= 10 * 8


def test_pillow_missing_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(CannotHandle, match="'jpeg' needs Pillow"):
        corrupted(PICTURE, "jpeg", 1, (0, 0))
