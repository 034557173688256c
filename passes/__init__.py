"""The registry: every kind of rewrite, one file each, in the order in which they act.

A new kind is its file, a line here, its test and a paragraph in the docs; a new filter a line in `low_passes`.
"""

from __future__ import annotations

from aarewrite.passes.a_trous import ATrous
from aarewrite.passes.anchor import PhaseAnchor
from aarewrite.passes.blur_input import BlurInput
from aarewrite.passes.blur_instead import BlurInstead
from aarewrite.passes.blur_then_strided import BlurThenStrided
from aarewrite.passes.contract import GraphPass, SitePass, StagePass
from aarewrite.passes.dense_then_blur import DenseThenBlur
from aarewrite.passes.fold_parameters import FoldParameters
from aarewrite.passes.merge_box import MergeBox
from aarewrite.passes.plain_blurs import PlainBlurs
from aarewrite.passes.views import PlainViews

REGISTRY: tuple[type[SitePass] | type[StagePass] | type[GraphPass], ...] = (
    FoldParameters,
    PlainBlurs,
    ATrous,
    BlurInstead,  # of the site passes, the first that wants a site has it
    BlurThenStrided,
    BlurInput,
    DenseThenBlur,
    MergeBox,
    PlainViews,  # copies what the others made
    PhaseAnchor,  # in front of all
)
SITE_PASSES: dict[str, type[SitePass]] = {kind.name: kind for kind in REGISTRY if issubclass(kind, SitePass)}
STAGE_PASSES: dict[str, type[StagePass]] = {kind.name: kind for kind in REGISTRY if issubclass(kind, StagePass)}
DEFAULT = next(reversed(SITE_PASSES.values()))  # wants every site
