"""Tracks: what a window keeps when it moves on."""

from fractions import Fraction

from aarewrite.streaming.tracks import Track, joined, overlap


def test_what_no_border_reaches_and_the_step_does_not_bring_is_kept() -> None:
    track = Track(2, Fraction(2), 3, 1, 20)
    assert track.moved(6) == 3
    assert track.kept(6) == (3, 16)
    assert track.kept(5) is None  # two and a half indices
    assert track.kept(32) is None  # 3 + 1 + 16 = 20: nothing is left
    assert track.kept(30) == (3, 4)


def test_operands_meet_where_length_and_rate_agree() -> None:
    a, b = Track(2, Fraction(1), 3, 0, 9), Track(1, Fraction(1), 1, 2, 9)
    assert joined([a, b]) == Track(2, Fraction(1), 3, 2, 9)
    reason = "its operands have different lengths or rates along the stream"
    assert joined([a, Track(2, Fraction(2), 0, 0, 9)]) == reason
    assert joined([a, Track(2, Fraction(1), 0, 0, 8)]) == reason


def test_overlap() -> None:
    assert overlap((0, 5), (3, 9)) == (3, 5)
    assert overlap((0, 3), (3, 9)) is None
