"""What a plan allows at each site, and that the search's choices become exactly that."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from stages import two_stages

from aarewrite import rewrite
from aarewrite.calibration.choices import PlanVariants
from aarewrite.calibration.layers import find_layers
from aarewrite.calibration.search import Choice
from aarewrite.recipe import Recipe


@pytest.fixture
def variants() -> PlanVariants:
    return PlanVariants(two_stages(), strengths=(1.0, 0.5))


def chosen(variants: PlanVariants, site: str, label: str) -> dict[str, Choice]:
    return {site: next(choice for choice in variants.choices(site) if choice.label == label)}


def cost_of(variants: PlanVariants, chosen: dict[str, Choice]) -> float:
    return variants.build(chosen)[1]


def test_a_block_and_its_shortcut_are_one_site(variants: PlanVariants) -> None:
    assert variants.sites() == ["second"]  # the first conv is left strided by `aligned`
    assert [choice.label for choice in variants.choices("second")] == [
        "after, f=3, strength 1",
        "after, f=3, strength 0.5",
        "before, f=3, strength 1",
        "before, f=3, strength 0.5",
        "a trous",
    ]


def test_choices_are_built_as_they_say(variants: PlanVariants) -> None:
    built, _ = variants.build(chosen(variants, "second", "before, f=3, strength 0.5"))
    taps = np.array([0.125, 0.75, 0.125])
    blurs = [t for t in built.graph.initializer if list(t.dims) == [4, 1, 3, 3]]
    assert len(blurs) in (1, 2)  # one for both convs, or one each
    layers, left = find_layers(two_stages(), built)
    assert {layer.name for layer in layers} == {"second", "shortcut", "inner"}
    assert left == []
    for blur in blurs:
        kernel = numpy_helper.to_array(blur)[0, 0]
        expected = 0.5 * np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
        expected[1, 1] += 0.5
        assert np.allclose(kernel, np.outer(taps, taps)) or np.allclose(kernel, expected)


def test_costs_are_relative_and_ordered(variants: PlanVariants) -> None:
    leave = cost_of(variants, {})
    before = cost_of(variants, chosen(variants, "second", "before, f=3, strength 1"))
    after = cost_of(variants, chosen(variants, "second", "after, f=3, strength 1"))
    trous = cost_of(variants, chosen(variants, "second", "a trous"))
    assert leave == 1.0
    assert 1.0 < before < after < trous < 4.0


def test_a_trous_leaves_nothing_to_blur_there(variants: PlanVariants) -> None:
    built, _ = variants.build(chosen(variants, "second", "a trous"))
    assert built.graph == rewrite(two_stages(), Recipe(last_stage="a trous")).model.graph


def test_filters_are_offered_where_asked_for() -> None:
    labels = [choice.label for choice in PlanVariants(two_stages(), filters=(3, 5)).choices("second")]
    assert "before, f=5, strength 1" in labels
    assert len(labels) == 7


def test_what_begins_at_an_input_is_no_choice_and_stays() -> None:
    variants = PlanVariants(two_stages(), Recipe(views="2"))
    assert not any("views" in choice.label for choice in variants.choices("second"))
    built, cost = variants.build({})
    assert built.graph == rewrite(two_stages(), Recipe(conv="keep", views="2")).model.graph
    assert cost == 2
