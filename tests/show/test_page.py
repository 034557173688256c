"""The page, parsed: every figure of the report in its section, names as text, nothing loaded from elsewhere."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa
from small_nets import (
    blurred_classifier,
    detector,
    grid_profile,
    parse,
    phase_classifier,
    pooled_net,
    save,
    scene,
    stripes,
    subsample_map,
)  # fmt: skip

from aarewrite.show.page import render_html
from aarewrite.verification import VerifyReport, before_after, verify
from aarewrite.verification.parity import Placement
from aarewrite.verification.statistics import Difference

VOID = {"meta", "img", "br", "link"}


@dataclasses.dataclass
class Element:
    """An element of the page; `parts` are its texts and elements in order."""

    tag: str
    attributes: dict[str, str | None]
    parts: list[Element | str] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(p if isinstance(p, str) else f" {p.text} " for p in self.parts).split())

    def all(self, tag: str = "", kind: str = "") -> Iterator[Element]:
        for part in self.parts:
            if isinstance(part, Element):
                if tag in ("", part.tag) and (not kind or kind in (part.attributes.get("class") or "").split()):
                    yield part
                yield from part.all(tag, kind)

    def table(self, k: int = 0) -> list[list[str]]:
        rows = list(self.all("table"))[k].all("tr")
        return [[cell.text for cell in row.all() if cell.tag in ("th", "td")] for row in rows]


class Page(HTMLParser):
    """A page whose elements are closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("page", {})
        self._open = [self.root]
        self.feed(page)
        assert self._open == [self.root]
        self.sections = {next(s.all("h2")).text: s for s in self.root.all("section")}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].parts.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].parts.append(data)


def page_of(report: VerifyReport) -> Page:
    return Page(render_html(report))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes: `phase_classifier` answers by the parity of the first column, `blurred_classifier` always class 1."""
    return save(tmp_path_factory.mktemp("data") / "stripes.npz", x=stripes(12), labels=[1] * 12)


@pytest.fixture(scope="module")
def compared(data: str) -> VerifyReport:
    return before_after(
        phase_classifier(), blurred_classifier(), data, protocols=("crop", "circular"), layers=True, max_shift=2
    )


def test_the_command_writes_a_page_with_the_figures_of_the_json(tmp_path: Path, data: str) -> None:
    before, after, page, values = (tmp_path / name for name in ("before.onnx", "after.onnx", "p.html", "p.json"))
    onnx.save(phase_classifier(), before)
    onnx.save(blurred_classifier(), after)
    request = ["verify", after, "--against", before, "--data", data, "--report", page, "--json", values]
    assert aa(*request).status == 0
    text = page.read_text(encoding="utf-8")
    found = json.loads(values.read_text())
    head, *rows = Page(text).sections["All figures"].table()
    assert [row[0] for row in rows] == ["after.onnx", "before.onnx"]
    for row, result in zip(rows, found["classification"], strict=True):
        for title, key in (("consistency", "consistency"), ("worst case", "worst_case"), ("top-1", "top1")):
            figures = [100 * result[key][name] for name in ("value", "low", "high")]
            assert [float(f) for f in re.findall(r"[\d.]+", row[head.index(title)])] == pytest.approx(figures, abs=0.05)
        assert row[-1] == "12"


def test_a_camera_and_own_pairs_come_first(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pictures = (255 * stripes(20)).astype(np.uint8)
    image.fromarray(pictures[0, 0]).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("file_a,file_b\na.png,a.png\n")
    report = before_after(
        phase_classifier(), blurred_classifier(), save(tmp_path / "s.npz", x=pictures, labels=[1] * 20),
        preprocess="unit", conditions=("shift", "noise"), own_pairs=tmp_path / "pairs.csv",
    )  # fmt: skip
    sections = page_of(report).sections
    assert list(sections)[:3] == ["Under a real camera", "Your own pairs", "In short"]
    camera, before = sections["Under a real camera"], report.camera[1]
    assert "after gives the same answer to two pictures of one scene in 100% of pairs at most one pixel apart" in (
        camera.text
    )
    near, far, right = camera.all("div", "card")
    for card, share in ((near, before.near.agreement), (far, before.far.agreement), (right, before.top1)):
        assert [float(b.text.rstrip("%")) for b in card.all("b")] == [pytest.approx(100 * share.value, abs=0.05), 100]
    head, *rows = camera.table()
    assert [row[:2] for row in rows] == [[m, c] for m in ("after", "before") for c in ("pooled", "shift", "noise")]
    assert head[2:4] == ["near agreement", "far agreement"]
    assert [row[0] for row in camera.table(1)] == ["condition", "pooled", "shift", "noise"]
    assert f"{report.camera[0].near.change.change:+.1f}" in camera.table(1)[1][1]
    assert "noise of sigma 0..5 of 255" in camera.text
    assert "seed 0. Severity 1." in camera.text
    assert sections["Your own pairs"].table()[1][:2] == ["after", "100% (20.7% to 100%)"]


def test_a_camera_alone_has_nothing_in_short(tmp_path: Path) -> None:
    pictures = save(tmp_path / "s.npz", x=(255 * stripes(4)).astype(np.uint8))
    report = verify(phase_classifier(), pictures, protocols=("camera",), conditions=("shift",), preprocess="unit")
    assert list(page_of(report).sections)[:2] == ["Under a real camera", "Why one pixel can matter"]
    noted = dataclasses.replace(report, notes=("mind this",))
    assert page_of(noted).sections["In short"].text == "In short mind this"


def test_nothing_is_loaded_from_elsewhere(compared: VerifyReport) -> None:
    text = render_html(compared)
    assert "://" not in text
    assert "url(" not in text
    every = list(Page(text).root.all())
    assert not {e.tag for e in every} & {"script", "link", "iframe", "object"}
    sources = [value or "" for e in every for key, value in e.attributes.items() if key in ("src", "href", "srcset")]
    assert len(sources) == 2 * len(compared.flips)  # both crops of each pair
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_sections_and_their_drawings(compared: VerifyReport) -> None:
    sections = page_of(compared).sections
    assert {title: len(list(section.all("svg"))) for title, section in sections.items()} == {
        "In short": 1,
        "Why one pixel can matter": 1,
        "How far can it move?": 2,
        "Pictures whose answer changes": 0,
        "Where inside does it happen?": 3,
        "What circular shifts would need": 0,
        "Do the numbers agree?": 0,
        "All figures": 0,
        "How this was measured": 0,
    }
    for section in sections.values():
        boxed = [table for box in section.all("div", "scroll") for table in box.all("table")]
        assert boxed == list(section.all("table"))  # a wide table scrolls in its box, the page does not


def test_in_short_counts_before_and_after(compared: VerifyReport) -> None:
    before = next(r for r in compared.classification if (r.model, r.protocol) == ("before", "crop"))
    changed = round(12 * (1 - before.consistency.value))
    assert 0 < changed < 12
    short = page_of(compared).sections["In short"]
    said = f"The answer changed for {changed} pictures with before, for 0 with after: fewer."
    assert said in short.text
    same, moved, right = short.all("div", "card")
    assert moved.text.startswith("changed by a move of 1 px")
    assert right.text.startswith("right answer")
    assert [(b.attributes["class"], float(b.text.rstrip("%"))) for b in same.all("b")] == [
        ("before", pytest.approx(100 * before.consistency.value, abs=0.05)),
        ("after", 100.0),
    ]
    assert "consistency, 95 % interval, n = 12" in same.text
    keys = [key.text for key in next(short.all("p", "key")).all("em")]
    assert keys == [
        f"steady in both: {12 - changed}",
        f"changed only in before: {changed}",
        "changed only in after: 0",
        "changed in both: 0",
    ]
    (waffle,) = short.all("svg")
    assert len(list(waffle.all("rect"))) == 12
    assert "is right less often" not in short.text


def test_the_paired_change_is_said_with_its_interval_and_p(compared: VerifyReport) -> None:
    crop = Difference("crop consistency", 93.3, 96.7, -0.12, 6.81, 0.04, 60)
    circular = dataclasses.replace(crop, name="circular consistency", p=0.25)
    for changes, words in (((crop, circular), "more than chance"), ((circular,), "no more than chance")):
        sections = page_of(dataclasses.replace(compared, changes=changes)).sections
        said = (
            f"{changes[0].name} changed by +3.4 (-0.1 to +6.8) points, which is {words} explains (p = {changes[0].p})."
        )
        assert said in sections["In short"].text
        rows = sections["All figures"].table(1)[1:]
        assert [row[0] for row in rows] == [change.name for change in changes]
        assert rows[-1] == ["circular consistency", "93.3%", "96.7%", "+3.4 (-0.1 to +6.8)", "0.25", "60"]
    measured = page_of(compared).sections["All figures"].table(1)[1:]
    assert [row[0] for row in measured] == ["crop consistency", "circular consistency"]
    assert {row[-1] for row in measured} == {"12"}


def test_a_loss_of_accuracy_is_said(data: str) -> None:
    short = page_of(before_after(blurred_classifier(), phase_classifier(), data)).sections["In short"]
    assert "after is right less often than before (-100.0 points)" in short.text
    assert re.search(r"The answer changed for 0 pictures with before, for [1-9]\d* with after: more\.", short.text)


def test_curves_hold_the_agreement_at_every_distance(compared: VerifyReport) -> None:
    crop, circular = page_of(compared).sections["How far can it move?"].all("svg")
    tips = [title.text for title in crop.all("title")]
    # Of the three directions two move the stripes by a column (their parity changes), two columns bring it back.
    assert [tip for tip in tips if tip.startswith("before")] == [
        "before, 0: 100%",
        "before, 1: 33.3%",
        "before, 2: 100%",
    ]
    assert [tip for tip in tips if tip.startswith("after")] == ["after, 0: 100%", "after, 1: 100%", "after, 2: 100%"]
    assert [title.text for title in circular.all("title")] == tips


def test_flips_show_both_crops_and_both_answers(compared: VerifyReport) -> None:
    same = page_of(dataclasses.replace(compared, class_names={0: "crane", 1: "crane"}))
    assert same.root.text.count("“crane” → “crane” ✗") == len(compared.flips)  # the bird and the machine
    named = dataclasses.replace(compared, class_names={0: "dark", 1: "<bright>"})
    section = page_of(named).sections["Pictures whose answer changes"]
    assert [h.text for h in section.all("h3")] == ["Changes with before, steady with after"]
    cards = list(section.all("div", "flip"))
    assert len(cards) == len(compared.flips)
    for card, flip in zip(cards, compared.flips, strict=True):
        assert [img.attributes["alt"] for img in card.all("img")] == [f"crop of {flip.name}"] * 2
        says = [line.text.replace(" :", ":") for line in card.all("div", "says")]
        assert says[0] in ("before: “dark” → “<bright>” ✗", "before: “<bright>” → “dark” ✗")
        assert says[1] == "after: “<bright>” both times ✓"
        down, right = (abs(b - a) for a, b in zip(*flip.offsets, strict=True))
        assert right % 2 == 1
        assert f"{right:g} px sideways" in card.text
        assert (f"{down:g} px vertically" in card.text) == (down > 0)


def test_a_single_model_is_told_as_one(data: str) -> None:
    page = page_of(verify(phase_classifier(), data, names=("net", "")))
    flips = page.sections["Pictures whose answer changes"]
    assert [h.text for h in flips.all("h3")] == ["Changes its answer"]
    assert {len(list(card.all("div", "says"))) for card in flips.all("div", "flip")} == {1}
    short = page.sections["In short"]
    assert re.search(r"The answer changed for \d+ of 12 pictures\.", short.text)
    assert not list(short.all("svg"))
    assert {b.attributes.get("class") for b in short.all("b")} == {None, "after"}
    assert "Do the numbers agree?" not in page.sections
    assert "held against" not in page.root.text


def test_layers_are_ranked_and_drawn_for_both_models(data: str) -> None:
    report = before_after(pooled_net(blur=False), pooled_net(blur=True), "synthetic:2", layers=True)
    section = page_of(report).sections["Where inside does it happen?"]
    head, *rows = section.table()
    assert head == ["", "layer", "operator", "stride so far", "error", "added here"]
    ranking = next(result for result in report.layers if result.model == "before").ranking
    assert rows == [
        [str(k), e.node, e.op, "2x2", f"{e.error.value:.3f}", f"{e.added:+.3f}"] for k, e in enumerate(ranking, 1)
    ]
    chart, *heats = section.all("svg")
    assert len([t for t in chart.all("title") if t.text.startswith(("before, ÷2", "after, ÷2"))]) == 2
    for heat, result in zip(heats, reversed(report.layers), strict=True):
        assert result.heat_map is not None
        errors = [f"{error:.3f}" for row in result.heat_map.errors for error in row]
        assert [title.text.rsplit(" ", 1)[1] for title in heat.all("title")] == errors


def test_maps_have_their_error_over_distance() -> None:
    report = verify(subsample_map(), "synthetic:3", task="dense", protocols=("crop", "circular"), names=("net", ""))
    page = page_of(report)
    assert "What happens to the output when the input moves?" in next(page.root.all("h1")).text
    head, *rows = page.sections["In short"].table()
    assert head == ["model", "output", "protocol", "same class", "relative error", "flicker of a pan", "pictures"]
    assert [row[:3] for row in rows] == [["net", "y", "crop"], ["net", "y", "circular"]]
    for row, result in zip(rows, report.maps, strict=True):
        error = result.relative_error
        assert row[4] == f"{error.value:.4f} ({error.low:.4f} to {error.high:.4f})"
        assert row[-1] == "3 of 3"
    assert len(list(page.sections["Error over distance"].all("svg"))) == 2
    assert "How far can it move?" not in page.sections


def test_metrics_have_a_row_for_every_shift(tmp_path: Path) -> None:
    metric = parse("""
    metric (float[N,1,16,16] a, float[N,1,16,16] b) => (float[N,1,1,1] distance) <float[1,1,1,1] w = {1}> {
        change = Sub(a, b)
        size = Abs(change)
        kept = Conv<strides = [2, 2]>(size, w)
        distance = GlobalAveragePool(kept)
    }""")
    rng = np.random.default_rng(0)
    samples = {name: rng.random((3, 1, 20, 20), np.float32) for name in ("ref", "p0", "p1")}
    report = verify(metric, save(tmp_path / "metric.npz", **samples))
    _, *rows = page_of(report).sections["Does the metric keep its ranking?"].table()
    assert len(rows) == len(report.metrics[0].points) > 0
    for row, point in zip(rows, report.metrics[0].points, strict=True):
        assert row[1] == f"{point.direction} {point.distance:g} px"
        assert row[3].startswith(f"{point.drift.value:.4f} (")


def test_violations_and_parity(compared: VerifyReport) -> None:
    sections = page_of(compared).sections
    claims = [claim for claim in compared.circular if not claim.exact_possible]
    assert claims
    for k, claim in enumerate(claims):
        rows = [[v.node, v.op, v.reason] for v in claim.violations]
        assert sections["What circular shifts would need"].table(k) == [["node", "operator", "why"], *rows]
    ((output,),) = (parity.outputs for parity in compared.parity)
    (_, row) = sections["Do the numbers agree?"].table()
    assert row[:3] == ["logits", f"float32 {'x'.join(map(str, output.shape))}", f"{output.max_abs:.3g}"]
    assert row[-1] == "differs"
    assert "an anti-aliased model is meant to differ" in sections["Do the numbers agree?"].text


def test_where_nodes_ran_is_said(compared: VerifyReport) -> None:
    placement = (
        Placement("a <net>", "cuda", {"CUDA": 3, "CPU": 1}, ("<n> (Resize)",), 1.234),
        Placement("b", "cpu", {"CPU": 4}, ("m (Conv)",), 5.0),
    )
    told = page_of(dataclasses.replace(compared, placement=placement)).sections["Do the numbers agree?"].text
    assert (
        "a <net> asked for CUDA: 3 nodes on CUDA, 1 nodes on CPU; 1.23 ms a run. Fell back to the CPU: <n> (Resize)."
    ) in told
    assert told.endswith("b asked for CPU: 4 nodes on CPU; 5.00 ms a run.")


def test_plan_rows_are_a_table(compared: VerifyReport) -> None:
    plan = ({"site": "pool1 <b>", "done": "blurred"}, {"site": "conv", "cost": 3})
    section = page_of(dataclasses.replace(compared, plan=plan)).sections["What was changed in the network"]
    assert section.table() == [["site", "done", "cost"], ["pool1 <b>", "blurred", ""], ["conv", "", "3"]]


def test_trials_that_were_measured_are_dots_and_rows(compared: VerifyReport) -> None:
    figures = {"cost": 1.25, "noise": 0.875, "disagreement": 0.04, "accepted": True, "reason": "less crop noise"}
    trials = (
        {"chosen": [["pool <1>", "after"], ["conv", "before"]], **figures},
        {"chosen": [["conv", "a trous"]], **figures, "noise": None, "reason": "over the budget"},
        {"chosen": [["conv", "keep"]], **figures, "cost": 2.0, "accepted": False},
    )
    section = page_of(dataclasses.replace(compared, trials=trials)).sections["What was tried before choosing this"]
    assert section.table() == [
        ["what was tried", "cost", "crop noise", "other class than before", "outcome"],
        ["pool <1>: after; conv: before", "1.25x", "0.875", "4%", "less crop noise"],
        ["conv: keep", "2.00x", "0.875", "4%", "less crop noise"],
    ]
    assert [(dot.attributes["fill"], dot.text) for dot in section.all("circle")] == [
        ("#1b6f8a", "pool <1>: after; conv: before: 1.25, 0.875"),
        ("#8a949b", "conv: keep: 2.00, 0.875"),
    ]


def test_failures_and_notes_come_first(compared: VerifyReport) -> None:
    report = dataclasses.replace(compared, failures=("consistency <low>",), notes=("<i>noise</i>",))
    short = page_of(report).sections["In short"]
    assert [p.text for p in short.all("p", "fail")] == ["Failed: consistency <low>"]
    assert [p.text for p in short.all("p", "note")] == ["<i>noise</i>"]


def test_names_with_markup_are_text(tmp_path: Path) -> None:
    name = "<script>alert('x')</script>&amp;"
    model = pooled_net(blur=False)
    for node in model.graph.node:
        node.name = f"{name}{node.op_type}"
    model.graph.output[0].name = model.graph.node[-1].output[0] = name
    data = save(tmp_path / "<b>.npz", x=stripes(4, 36))
    report = verify(model, data, protocols=("crop", "circular"), layers=True, names=(name, ""), against=model)
    page = page_of(report)
    assert next(page.root.all("title")).text == f"{name}: does it survive a shift?"
    assert page.sections["Where inside does it happen?"].table()[1][1] == f"{name}MaxPool"
    assert page.sections["Do the numbers agree?"].table()[1][0] == name
    assert "<b>.npz" in page.sections["How this was measured"].text
    assert not list(page.root.all("script"))


def test_only_a_page_needs_jinja2(tmp_path: Path) -> None:
    onnx.save(pooled_net(blur=False), tmp_path / "net.onnx")
    code = """
import sys
from aarewrite.cli.app import main
for words in ("--help", "verify --help", "net.onnx", "verify net.onnx --data synthetic:1 --report page.html"):
    sys.argv[1:] = words.split()
    try: main()
    except SystemExit as done: print(done.code, *(name in sys.modules for name in ("jinja2", "aarewrite.show.page")))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = [line for line in ran.stdout.splitlines() if line.startswith("0 ")]
    assert loaded == [*["0 False False"] * 3, "0 True True"]


def test_detectors_show_consistency_beside_survival_and_their_frames(tmp_path: Path) -> None:
    data = scene(tmp_path, 32, [(10, 12, 0.9), (20, 19, 0.7)], [(16, 16, 0.6)])
    masked, every = detector(32, mask=True), detector(32)
    report = verify(masked, data, against=every, names=("masked", "all"), decode=grid_profile(tmp_path), max_shift=1)
    sections = page_of(report).sections
    short = sections["In short"]
    consistency, survival = short.all("div", "card")
    assert [b.text for b in consistency.all("b")] == ["100%", "40%"]
    assert [b.text for b in survival.all("b")] == ["66.7%"]
    head, *rows = short.table()
    assert [row[0] for row in rows] == ["masked", "all"]
    assert [row[head.index("survival")].split(" (")[0] for row in rows] == ["66.7%", "itself"]
    assert [row[head.index("born / died")] for row in rows] == ["2 / 4", "0 / 0"]
    shown = sections["Frames whose boxes change"]
    frames = next(shown.all("div", "frames"))
    assert [div.text for div in frames.all("div", "small")] == [
        "scene[0]: moved 1 px sideways", "scene[1]: moved 1 px sideways",
    ]  # fmt: skip
    assert [b.text for b in frames.all("b")] == ["all", "masked"] * 2
    assert len(list(frames.all("svg"))) == 8
    assert len(list(frames.all("image"))) == 4  # both models are drawn on one picture
    tips = [title.text for svg in frames.all("svg") for title in svg.all("title")]
    assert tips[:4] == ["class 0, score 0.90", "class 0, score 0.70"] * 2


def test_a_detector_that_finds_nothing_has_no_signal(tmp_path: Path) -> None:
    report = verify(detector(32), scene(tmp_path, 32, []), decode=grid_profile(tmp_path))
    sections = page_of(report).sections
    assert "no signal in 1 samples" in sections["In short"].text
    assert "100%" not in sections["In short"].text
    assert "Frames whose boxes change" not in sections
    assert "How far can it move?" not in sections


def test_certificates_and_how_sure_models_are(compared: VerifyReport) -> None:
    section = page_of(compared).sections["All figures"]
    for result in compared.classification:
        assert result.certificate in section.text
    head, *rows = section.table(2)
    assert (head[:2], len(rows)) == (["model", "confidence"], 2)
    counts = compared.classification[0].confidence.histogram
    assert rows[0][3] == " ".join(map(str, counts))
    assert sum(counts) == compared.n


def test_embeddings_show_their_neighbours_and_the_index() -> None:
    net = parse("e (float[N,1,16,16] x) => (float[N,256] y) { y = Flatten(x) }")
    report = before_after(net, net, "synthetic:4", task="embed", max_shift=2)
    sections = page_of(report).sections
    head, *rows = sections["In short"].table()
    assert [row[0] for row in rows] == ["after", "before"]
    share = 100 * report.embeddings[0].drift_of_apart
    assert float(rows[0][head.index("share of that")].rstrip("%")) == pytest.approx(share, abs=0.05)
    assert "An index built with before and asked with after finds 100% of its pictures" in sections["In short"].text
    assert len(list(sections["How far does it move?"].all("svg"))) == 1
