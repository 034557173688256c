"""Prose and tables that fit a terminal; whole lines where there is none."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from aarewrite.show.console import Terminal, product, shortened, si


class Screen:
    """A terminal of so many columns, or a pipe."""

    def __init__(self, columns: int | None) -> None:
        self.file = io.StringIO()
        self.out = Terminal(columns, force_terminal=columns is not None)
        self.out.file = self.file

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture(autouse=True)
def no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


TITLES = ("node", "kind", "so far", "decision", "MACs>")
ROWS = (
    ("/stem/Conv", "Conv", "1x1", "blur", "0 -> 1k"),
    ("/blocks/blocks.1/shortcut/shortcut.1/Conv", "Conv", "2x2", Text("kept: first conv", "dim"), "9"),
)


def table(columns: int | None, **options: object) -> list[str]:
    screen = Screen(columns)
    settings = {"names": ("node",), "drop": ("so far", "kind"), "below": "decision"}
    screen.out.table(TITLES, ROWS, **(settings | options))
    return screen.lines


def test_a_pipe_gets_whole_rows() -> None:
    assert table(None) == table(200) == [
        "node                                       kind  so far  decision             MACs",
        "/stem/Conv                                 Conv  1x1     blur              0 -> 1k",
        "/blocks/blocks.1/shortcut/shortcut.1/Conv  Conv  2x2     kept: first conv        9",
    ]  # fmt: skip


def test_first_the_decision_stands_below_its_row() -> None:
    assert table(80) == [
        "node                                       kind  so far     MACs",
        "/stem/Conv                                 Conv  1x1     0 -> 1k",
        "  blur",
        "/blocks/blocks.1/shortcut/shortcut.1/Conv  Conv  2x2           9",
        "  kept: first conv",
    ]


def test_then_names_are_shortened_and_columns_left_out() -> None:
    assert table(50) == [
        "node                         kind  so far     MACs",
        "/stem/Conv                   Conv  1x1     0 -> 1k",
        "  blur",
        "/blocks/blocks.1/.../Conv    Conv  2x2           9",
        "  kept: first conv",
    ]
    assert table(40) == [
        "node                       kind     MACs",
        "/stem/Conv                 Conv  0 -> 1k",
        "  blur",
        "/blocks/blocks.1/.../Conv  Conv        9",
        "  kept: first conv",
    ]
    assert table(33)[3] == "/blocks/bl...tcut.1/Conv        9"


def test_columns_said_once_above_the_rows_that_share_them() -> None:
    screen = Screen(30)
    rows = [("a.onnx", "crop", str(shift), "0.125") for shift in (1, 2)] + [("b.onnx", "crop", "1", "0.5")]
    screen.out.table(("model", "protocol", "shift>", "relative error"), rows, heads=2)
    assert screen.lines == [
        "shift  relative error",
        "model a.onnx, protocol crop",
        "    1  0.125",
        "    2  0.125",
        "model b.onnx, protocol crop",
        "    1  0.5",
    ]


def test_figures_stand_below_each_other_where_they_are_too_wide() -> None:
    rows = [(f"{name}.onnx", "99.0 % [97.5, 99.6]", "0.0192") for name in "abc"]
    wide, narrow = Screen(60), Screen(50)
    for screen in (wide, narrow):
        screen.out.figures(("model", "consistency", "flips/frame"), rows)
    assert wide.lines[1] == "a.onnx  99.0 % [97.5, 99.6]  0.0192"
    narrow = Screen(33)
    narrow.out.figures(("model", "consistency", "flips/frame"), rows)
    assert narrow.lines[:4] == ["model        a.onnx", "consistency  99.0 % [97.5, 99.6]", "flips/frame  0.0192", ""]
    assert len(narrow.lines) == 11


def test_prose_breaks_between_words_and_shortens_what_is_longer_than_a_line() -> None:
    screen = Screen(30)
    name = "/encoder/block.0/layer.1/attention/Conv_0"
    screen.out.say(f"largest difference 1e-07, in {name}", "data  ", "bold", hang=6)
    assert screen.lines == ["data  largest difference", "      1e-07, in", "      /encoder/.../Conv_0"]
    pipe = Screen(None)
    pipe.out.say(" ".join([f"in {name}"] * 9))
    assert pipe.lines == [" ".join([f"in {name}"] * 9)]


def test_no_colour_means_no_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> str:
        screen = Screen(60)
        screen.out.table(("a", "b"), [(Text("x", "dim"), Text("y", "red"))])
        screen.out.say(": it is so", "note", "yellow")
        return screen.file.getvalue()

    assert "\x1b" not in written()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in written()


@pytest.mark.parametrize(
    ("names", "width", "short"),
    [
        ("/conv/Conv", 10, "/conv/Conv"),
        ("/blocks/blocks.1/shortcut/shortcut.1/Conv", 30, "/blocks/blocks.1/.../Conv"),
        ("/blocks/blocks.1/shortcut/shortcut.1/Conv", 38, "/blocks/blocks.1/shortcut/.../Conv"),
        ("abcdefghijklmnop", 9, "abc...nop"),
        ("/blocks/blocks.1/Conv", 12, "/blo.../Conv"),
        ("net/one/two/three/Relu net/one/two/four/Relu", 19, "net/.../three/Relu net/.../four/Relu"),
        ("net_a_conv_of_a_stage net_b_conv_of_a_stage", 11, "net_a_...ge net_b_...ge"),
        ("conv_of_a_stage_1 conv_of_a_stage_2", 10, "con...ge_1 con...ge_2"),
    ],
)
def test_names_keep_both_ends_and_stay_different(names: str, width: int, short: str) -> None:
    assert shortened(names.split(), width) == short.split()


def test_names_that_cannot_stay_different_have_lines_of_their_own() -> None:
    names = [f"backbone_stage_{stage}_of_the_network" for stage in "ab"]
    assert shortened(names, 12) is None
    screen = Screen(36)
    screen.out.table(("node", "kind", "size", "MACs>"), [(n, "Conv", "3x3", "12.5k") for n in names], names=("node",))
    assert screen.lines == [
        "node",
        "  kind  size   MACs",
        "backbone_stage_a_of_the_network",
        "  Conv  3x3   12.5k",
        "backbone_stage_b_of_the_network",
        "  Conv  3x3   12.5k",
    ]


def test_numbers() -> None:
    assert [si(count) for count in (0, 999, 1234, 3_160_000, 5_000_000_000)] == ["0", "999", "1.23k", "3.16M", "5G"]
    assert [product(value) for value in ((3, None), None, (), "x", 7)] == ["3x?", "?", "", "x", "7"]


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    screen = Screen(None)
    screen.out.put("a\x1b[2J")
    screen.out.put(Text("b\n\x9b", "bold"))
    screen.out.say("c\u202e", lead="note: ")
    screen.out.table(("node", "MACs>"), [(Text("d\x9b", "dim"), "1")])
    assert screen.lines == ["a\\x1b[2J", "b\\n\\x9b", "note: c\\u202e", "node   MACs", "d\\x9b     1"]
