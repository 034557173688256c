"""The search over choices: it takes what helps, within the limits, and says why not the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from pairs import Net

from aarewrite.calibration.search import Choice, SearchOptions, search
from aarewrite.data.canvases import from_array


class Toy:
    """One strided site: "blur" removes what aliases, "scramble" breaks the model, "costly" is over any budget."""

    def build(self, chosen: Mapping[str, Choice]) -> tuple[onnx.ModelProto, float]:
        what = chosen["site"].label if "site" in chosen else "leave"
        rng = np.random.default_rng(0)
        net = Net(["n", 2, 16, 16])
        source = "x"
        if what == "blur":
            source = net.blur("x", "blurred", 2, 1)
        if what == "scramble":
            source = net.conv("x", "scrambled", np.zeros((2, 2, 1, 1)))
        net.conv(source, "site", rng.standard_normal((6, 2, 3, 3)), strides=[2, 2])
        net.node("Relu", ["site"], "act")
        net.node("GlobalAveragePool", ["act"], "pooled")
        net.node("Flatten", ["pooled"], "flat")
        net.constant("head.w", rng.standard_normal((4, 6)))
        net.node("Gemm", ["flat", "head.w"], "y", transB=1)
        return net.model("y", 2), 3.0 if what == "costly" else 1.0

    def sites(self) -> Sequence[str]:
        return ("site",)

    def choices(self, site: str) -> Sequence[Choice]:
        return (Choice("blur"), Choice("scramble"), Choice("costly"))


def aliasing(count: int) -> np.ndarray:
    """A smooth part that tells samples apart, and a checkerboard that aliases."""
    rng = np.random.default_rng(1)
    level = rng.standard_normal((count, 2, 1, 1))
    board = (np.indices((24, 24)).sum(0) % 2 * 2 - 1) * rng.standard_normal((count, 2, 1, 1))
    return (level + board + 0.05 * rng.standard_normal((count, 2, 24, 24))).astype(np.float32)


def test_it_takes_what_helps_and_says_why_not_the_rest() -> None:
    toy, canvases = Toy(), from_array(aliasing(48), "x", size=(16, 16))
    seen = []
    result = search(
        toy.build({})[0], toy, canvases, range(48), SearchOptions(max_disagreement=0.6),
        progress=lambda trial, alone: seen.append((trial, alone)),
    )  # fmt: skip
    assert {site: choice.label for site, choice in result.chosen.items()} == {"site": "blur"}
    assert tuple(trial for trial, _ in seen) == result.trials
    assert {alone for _, alone in seen} == {len(toy.choices("site"))}
    by_label = {trial.chosen[0][1]: trial for trial in result.trials}
    assert by_label["blur"].accepted
    assert by_label["blur"].noise < 0.9
    assert by_label["scramble"].reason
    assert by_label["costly"].reason == "costs 3.00x, over 1.15x"


def test_a_strict_limit_leaves_the_model_as_it_is() -> None:
    toy, canvases = Toy(), from_array(aliasing(32), "x", size=(16, 16))
    result = search(toy.build({})[0], toy, canvases, range(32), SearchOptions(max_disagreement=-1.0))
    assert result.chosen == {}
    assert not any(trial.accepted for trial in result.trials)


def test_it_keeps_to_its_time() -> None:
    toy, canvases = Toy(), from_array(aliasing(48), "x", size=(16, 16))
    whole, none = (
        search(toy.build({})[0], toy, canvases, range(48), SearchOptions(max_disagreement=0.6), minutes=minutes)
        for minutes in (10, 0)
    )
    assert list(whole.chosen) == ["site"]
    assert (none.chosen, none.trials) == ({}, ())
