"""The drawings, read as XML: values lie where the ticks say, colours and counts are those of the data."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

from aarewrite.show import charts

TITLES = ("shift", "share")


def elements(drawing: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing).iter(tag))


def texts(drawing: str) -> dict[str, tuple[float, float]]:
    return {e.text or "": (float(e.attrib["x"]), float(e.attrib["y"])) for e in elements(drawing, "text")}


def places(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in points.split())]


def test_lines_and_intervals_lie_where_the_ticks_say() -> None:
    line = charts.Series("net", charts.AFTER, [(0, 1, 1, 1), (4, 0.75, 0.5, 0.875)])
    drawing = charts.line_chart([line], TITLES, (0.5, 1.0), "{:.3f}".format)
    at = texts(drawing)
    # The ticks: 5 levels of y, each x that occurs; a tick's text stands 4 units below its line.
    levels = {float(label): at[label][1] - 4 for label in ("0.500", "0.625", "0.750", "0.875", "1.000")}
    assert levels == {0.5: 234, 0.625: 182.5, 0.75: 131, 0.875: 79.5, 1.0: 28}
    assert (at["0"][0], at["4"][0]) == (62, 466)
    assert places(elements(drawing, "polyline")[0].attrib["points"]) == [(62, 28), (466, 131)]
    assert places(elements(drawing, "polygon")[0].attrib["points"]) == [(62, 28), (466, 79.5), (466, 234), (62, 28)]
    assert [e.text for e in elements(drawing, "title")] == ["net, 0: 1.000", "net, 4: 0.750"]
    assert {e.attrib["fill"] for e in elements(drawing, "circle")} == {charts.AFTER}
    assert {"shift", "share", "net"} <= at.keys()


def test_what_is_out_of_range_lies_on_the_frame() -> None:
    line = charts.Series("net", charts.AFTER, [(0, 2, -1, 3), (1, 0.5, 0, 1)])
    drawing = charts.line_chart([line], TITLES, (0.0, 1.0), str)
    assert places(elements(drawing, "polyline")[0].attrib["points"])[0] == (62, 28)
    assert places(elements(drawing, "polygon")[0].attrib["points"])[::3] == [(62, 28), (62, 234)]


def test_a_single_shift_and_many_shifts_can_be_drawn() -> None:
    one = charts.line_chart([charts.Series("net", charts.AFTER, [(3, 0.5, 0, 1)])], TITLES, (0.0, 1.0), str)
    assert places(elements(one, "polyline")[0].attrib["points"]) == [(62, 131)]
    many = [(float(x), 0.5, 0.0, 1.0) for x in range(25)]
    drawing = charts.line_chart([charts.Series("net", charts.AFTER, many)], TITLES, (0.0, 1.0), "{:.2f}".format)
    ticks = [e.text for e in elements(drawing, "text") if e.attrib["y"] == "252"]
    assert ticks == ["0", "3", "6", "9", "12", "15", "18", "21", "24"]


def test_labels_of_lines_that_end_together_do_not_overlap_and_long_ones_are_cut() -> None:
    names = ("before", "after", "a name of more than twenty-one letters")
    lines = [charts.Series(name, charts.BEFORE, [(0, 1, 1, 1), (1, 0.5, 0.5, 0.5)]) for name in names]
    at = texts(charts.line_chart(lines, TITLES, (0.0, 1.0), str))
    assert [at[name][1] for name in ("before", "after", "a name of more than …")] == [135, 151, 167]


def test_dots_lie_between_the_ticks_of_both_axes() -> None:
    drawing = charts.scatter([(1, 0.5, "#111", "first"), (3, 1.5, "#222", "second")], TITLES)
    # 5 % margin on either side: 0.9..3.1 over 62..616, 0.45..1.55 over 234..28.
    at = texts(drawing)
    assert (at["0.90"][0], at["3.10"][0], at["0.45"][1], at["1.55"][1]) == (62, 616, 238, 32)
    dots = [(float(e.attrib["cx"]), float(e.attrib["cy"]), e.attrib["fill"]) for e in elements(drawing, "circle")]
    assert dots == [(87.2, 224.6, "#111"), (590.8, 37.4, "#222")]
    assert [e.text for e in elements(drawing, "title")] == ["first: 1.00, 0.500", "second: 3.00, 1.500"]


def test_a_single_dot_lies_in_the_middle() -> None:
    (dot,) = elements(charts.scatter([(0, 2, "#111", "only")], TITLES), "circle")
    assert (dot.attrib["cx"], dot.attrib["cy"]) == ("339.0", "131.0")


def test_heat_is_white_at_zero_and_dark_red_at_the_largest() -> None:
    drawing = charts.heat_map([[0.0, 0.5], [0.25, 1.0]], (0, 2), (0, 4), 1.0)
    cells = {e[0].text: e.attrib["fill"] for e in elements(drawing, "rect")}
    assert cells == {
        "0 px right, 0 px down: 0.000": "rgb(255,255,255)",
        "4 px right, 0 px down: 0.500": "rgb(234,135,85)",
        "0 px right, 2 px down: 0.250": "rgb(254,206,154)",
        "4 px right, 2 px down: 1.000": "rgb(110,10,30)",
    }
    at = texts(drawing)
    assert at["4"][0] - at["0"][0] == 34  # one cell; the row's 0 is overwritten by the column's
    assert "px moved down" in at
    assert "px moved down" not in texts(charts.heat_map([[0.0, 0.5]], (0,), (0, 4), 0.0))


@pytest.mark.parametrize(
    ("counts", "squares"), [((3, 1), {"#aaa": 3, "#bbb": 1}), ((2400, 600), {"#aaa": 800, "#bbb": 200})]
)
def test_a_square_stands_for_one_image_or_for_several(counts: tuple[int, int], squares: dict[str, int]) -> None:
    drawing = charts.waffle([("steady", "#aaa", counts[0]), ("changed", "#bbb", counts[1])])
    assert Counter(e.attrib["fill"] for e in elements(drawing, "rect")) == squares
    width, height = map(float, ElementTree.fromstring(drawing).attrib["viewBox"].split()[2:])
    for e in elements(drawing, "rect"):
        assert float(e.attrib["x"]) + float(e.attrib["width"]) < width
        assert float(e.attrib["y"]) + float(e.attrib["height"]) < height


def test_the_sketch_shows_that_blur_keeps_the_average() -> None:
    rows: dict[str, list[str]] = {}
    for e in elements(charts.aliasing_sketch(), "rect"):
        half = "moved" if float(e.attrib["x"]) >= 426 else "as it is"
        rows.setdefault(f"{half} {e.attrib['y']}", []).append(e.attrib["fill"][4:].split(",")[0])
    assert rows == {
        "as it is 28": ["40", "240"] * 8,
        "as it is 74": ["40"] * 8,
        "as it is 120": ["140"] * 8,
        "moved 28": ["240", "40"] * 8,
        "moved 74": ["240"] * 8,
        "moved 120": ["140"] * 8,
    }


def test_markup_in_names_is_text() -> None:
    name = '<b a="1">&'
    drawings = (
        charts.line_chart([charts.Series(name, name, [(0, 1, 1, 1)])], (name, name), (0.0, 1.0), str),
        charts.scatter([(0, 0, name, name)], (name, name)),
        charts.waffle([(name, name, 1)]),
    )
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert {e.tag for e in root.iter()} <= {
            "svg",
            "g",
            "line",
            "text",
            "polygon",
            "polyline",
            "circle",
            "rect",
            "title",
        }
        assert name in "".join(root.itertext())


def test_frames_hold_their_picture_once_and_boxes_where_they_lie() -> None:
    boxes = [((1.0, 2.0, 11.0, 7.0), "class 3 < 4", "paired"), ((0, 0, 5, 5), "b", "alone")]
    first = charts.frame("data:image/png;base64,AA", "f-0", True, (240, 320), boxes)
    again = charts.frame("data:image/png;base64,AA", "f-0", False, (240, 320), [])
    (image,) = elements(first, "image")
    assert (image.attrib["id"], image.attrib["width"], image.attrib["height"]) == ("f-0", "320", "240")
    assert ElementTree.fromstring(first).attrib["viewBox"] == "0 0 320 240"
    _, *drawn = elements(first, "rect")
    assert [[float(box.attrib[key]) for key in ("x", "y", "width", "height")] for box in drawn] == [
        [1, 2, 10, 5], [0, 0, 5, 5],
    ]  # fmt: skip
    assert [box.attrib["stroke"] for box in drawn] == [charts.LOOKS["paired"][0], charts.LOOKS["alone"][0]]
    assert [e.text for e in elements(first, "title")] == ["class 3 < 4", "b"]
    assert [use.attrib["href"] for use in elements(again, "use")] == ["#f-0"]
    assert not elements(again, "image")
    assert not elements(charts.frame("", "f-1", True, (8, 8), []), "image")
