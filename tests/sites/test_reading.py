"""A graph is read once, and anew where it was changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx
import pytest
from reference import build
from stages import three_sites

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.rewriting import planner
from aarewrite.sites import reading
from aarewrite.sites.reading import Reading

OPEN = """(float[N, 2, H, W] x) => (float[] y) {
    [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
}"""


def read(model: onnx.ModelProto, **input_shapes: tuple[int, ...]) -> Reading:
    return Reading(GraphEditor(load(model)), input_shapes)


@pytest.mark.parametrize(("model", "inferred"), [(three_sites(), 1), (build(OPEN), 2)], ids=["static", "open"])
def test_a_rewrite_finds_the_sites_of_a_graph_once_and_infers_shapes_once_more_at_the_nominal_size(
    model: onnx.ModelProto, inferred: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs: the twin's, and the one that is planned and rewritten, whose shapes are inferred again when its cost
    is counted."""
    seen: list[GraphEditor] = []  # kept, so that no two have one id
    counts: dict[str, Counter[int]] = {"find": Counter(), "Shapes": Counter()}
    for module, name in ((reading, "find"), (reading, "Shapes"), (planner, "Shapes")):
        original, count = getattr(module, name), counts[name]

        def counting(editor: GraphEditor, *rest: Any, original: Any = original, count: Any = count) -> Any:
            seen.append(editor)
            count[id(editor)] += 1
            return original(editor, *rest)

        monkeypatch.setattr(module, name, counting)
    assert aarewrite.rewrite(model).changed
    assert sorted(counts["find"].values()) == [1, 1]
    assert sorted(counts["Shapes"].values()) == [1, inferred + 1]


def test_what_is_read_is_kept() -> None:
    graph = read(three_sites())
    assert graph.located is graph.located
    assert graph.shapes is graph.shapes
    assert graph.names is graph.names
    assert graph.main is graph.editor.scopes[0]
    assert graph.model is graph.editor.model


def test_places_are_the_sites_by_scope_and_name() -> None:
    model = build(
        """(float[1, 2, 9, 9] x, bool c) => (float[1, 2, 4, 4] y) {
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        [If] y = If (c) <
            then_branch = yes () => (float[1, 2, 4, 4] p) { p = Identity(a) },
            else_branch = no () => (float[1, 2, 4, 4] q) {
                [pool] q = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }
        >
    }"""
    )
    places = read(model).places
    assert list(places) == [("", "pool"), ("If/else_branch", "pool")]
    assert [place.site.window.kernel for place in places.values()] == [(3, 3), (2, 2)]


def test_sources_are_what_else_samples() -> None:
    graph = read(build("(float[1, 4, 8, 8] x) => (float[] y) { [deep] y = SpaceToDepth<blocksize = 2>(x) }"))
    assert graph.located == []
    assert [source.node for source in graph.sources] == ["deep"]


def test_a_changed_graph_is_read_anew_with_the_same_input_shapes() -> None:
    first = read(build(OPEN), x=(1, 2, 8, 6))
    (place,) = first.located
    first.editor.set_attributes(place.node, kernel_shape=[3, 3])
    assert first.located[0].site.window.kernel == (2, 2)
    again = first.again()
    (found,) = again.located
    assert found.site.window.kernel == (3, 3)
    assert (found.site.input_size, found.site.output_size) == ((8, 6), (3, 2))
    assert first.located[0].site.output_size == (4, 3)


def test_input_shapes_that_do_not_fit_are_refused_where_shapes_are_asked_for() -> None:
    graph = read(build(OPEN), x=(1, 3, 8, 6))
    with pytest.raises(aarewrite.UsageError, match=r"--input x: 1x3x8x6 contradicts \?x2x\?x\?"):
        assert graph.located
