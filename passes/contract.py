"""One contract for every kind of rewrite: of a site, of a set of sites at once, of the whole graph; and for filters.

A pass is a frozen dataclass whose fields are its options. It decides on values and changes the graph in `apply` alone.
What it is called, how a recipe asks for it, what it costs and how it reads in a table is said here and nowhere else.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from aarewrite.errors import CannotHandle
from aarewrite.filters import PADS
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model, recorded
from aarewrite.model.types import Node, Tensor
from aarewrite.options import option, share, whole
from aarewrite.sites.reading import Reading
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Axes, Sizes, Window

Asked = Any  # an instance of a stage's `Options`
Record = Mapping[str, object]  # what a model's metadata keep of a stage
Frames = Mapping[str, Sequence[tuple[int, int]]]  # input name -> what is in front of and behind each of its axes
PLACEMENTS = ("after", "before")  # of a strided Conv's blur


@dataclass(frozen=True)
class Skip:
    """Why something is not done."""

    reason: str


@dataclass(frozen=True)
class Quantisation:
    """The scale and zero point (tensors of the graph) of a quantised map, and the form its operators take."""

    scale: Tensor
    zero_point: Tensor
    form: str  # "qdq" or "qlinear"


class LowPass(ABC):
    """A low-pass filter that samples, with its geometry worked out; a frozen dataclass.

    Attributes:
        names: The values of the option `filter` that mean it.
        takes_strength: Those of them that can be mixed with the identity.
        strides: Per spatial axis.
        strength: How much of the filter is mixed with the identity, above 0 and up to 1.
        keeps_constants: Whether it adds nothing of its own at the border, so that a bias may stay in front of it.
    """

    names: ClassVar[tuple[int | str, ...]]
    takes_strength: ClassVar[tuple[int | str, ...]]
    keeps_constants: ClassVar[bool] = False
    strides: Axes
    strength: float

    @classmethod
    @abstractmethod
    def fit(cls, site: Site, do: SitePass, strides: Axes, mapped: Sizes) -> tuple[Self, bool, tuple[str, ...]] | Skip:
        """The filter over a map of size `mapped`, whether the identity proof can cover it, and notes."""

    @abstractmethod
    def output(self, size: Sizes) -> Sizes:
        """Spatial size of the filtered map."""

    @abstractmethod
    def nodes(
        self, editor: GraphEditor, scope: Scope, source: Tensor, target: Tensor, channels: int, dtype: int, name: str,
        quantisation: Quantisation | None = None, bias: Tensor | None = None,
    ) -> list[Node]:  # fmt: skip
        """New nodes that write the filtered `source` (N, channels, *spatial) to `target`, in order."""

    @abstractmethod
    def macs(self, size: Sizes) -> int:
        """Multiply-accumulates for one channel of a map of this (known) size."""

    @abstractmethod
    def twin(self) -> Self:
        """The same filter with a single tap: it subsamples."""

    @abstractmethod
    def dense(self) -> Self:
        """The same filter at stride 1, keeping the map's size."""

    @abstractmethod
    def record(self) -> dict[str, object]:
        """What a model's metadata say of it; with `samples_by`, its strides, where its nodes are no convolution."""

    @abstractmethod
    def __str__(self) -> str:
        """The words of the table."""

    def filtering_node(self, nodes: Sequence[Node]) -> Node:
        """The one of its nodes that stands for the filter: the convolution, or the last one."""
        return next((node for node in nodes if node.op in ("Conv", "QLinearConv")), nodes[-1])

    def against_open_sizes(self, size: Sizes) -> str:
        """Why the filtered map would differ in size from the strided one at some of the open sizes, "" if never."""
        return ""

    def smallest_map(self, mapped: Sizes) -> int:
        """The smallest size of an open axis that it works with."""
        return 1

    @property
    def moves(self) -> tuple[float, ...]:
        """How far it moves a map, in samples in front of it."""
        return (0.0,) * len(self.strides)


@dataclass(frozen=True)
class Match:
    """What a site pass would do at a site.

    Attributes:
        window: How the operator runs now (explicit pads, strides included).
        blur: The filter inserted.
        proven: Whether the identity proof covers it; a changed operator is outside.
        notes: What the user should know.
        bias_behind: Whether the conv's bias moves behind the blur (a fused BatchNormalization's shift).
        smallest_map: Where the blurred map's size is symbolic: the smallest size that the filter works with.
    """

    window: Window
    blur: LowPass
    proven: bool = True
    notes: tuple[str, ...] = ()
    bias_behind: bool = False
    smallest_map: int = 1

    def twin(self) -> Match:
        """The structural twin: the filter passes one tap through, so that the rewrite must equal the original."""
        return dataclasses.replace(self, blur=self.blur.twin(), notes=())


@dataclass(frozen=True)
class BlurOptions:
    """What is said of every blur.

    Attributes:
        filter: Taps per subsampled axis, 1..7 (binomial; 1 is plain subsampling), or the name of another filter.
        pad: How the map is padded for the blur: "reflect", "edge" or "zero".
        pad_rule: "centred": floor and ceil of (f-1)/2; "symmetric": ((s-1)+(f-1))//2 on both sides (timm).
        every_axis: Blur also the spatial axes whose stride is 1 (Composer's fixed 2-D kernel).
        strength: How much of the blur is mixed with the identity, above 0 and up to 1 (the full filter).
    """

    filter: int | str = 3
    pad: str = option("reflect", choices=PADS)
    pad_rule: str = option("centred", choices=("centred", "symmetric"))
    every_axis: bool = False
    strength: float = share(1.0)


@dataclass(frozen=True)
class SiteOptions(BlurOptions):
    """What a recipe says about sites.

    Attributes:
        max_pool: "blur" or "keep".
        max_window: Largest MaxPool window that is kept; larger ones shrink to it, 0 keeps all. 2 turns the
            3x3 stem window of a ResNet into the published 2x2.
        unit_stride_max_pool: Blur MaxPools of stride 1 as well.
        conv: "after", "before" or "keep": where a strided Conv's blur goes.
        after: "activation" or "conv": what "after" means.
        first_conv: Whether the first Conv behind an input is blurred.
        halve_stem: A first Conv of stride 4 keeps stride 2 and gets a blur of stride 2 (AlexNet).
        min_channels: Convs with fewer input channels are left.
        shortcut: What a strided Conv with no activation that ends in the residual Add becomes:
            "blur-first" (a 1x1 is blurred on its input; others as any Conv), "conv" (as any Conv), "keep".
        average_pool: "dense" (stride 1, then blur), "replace" (a blur takes its place) or "keep".
    """

    max_pool: str = option("blur", choices=("blur", "keep"))
    max_window: int = whole(0)
    unit_stride_max_pool: bool = False
    conv: str = option("after", choices=(*PLACEMENTS, "keep"))
    after: str = option("activation", choices=("activation", "conv"))
    first_conv: bool = False
    halve_stem: bool = False
    min_channels: int = whole(1)
    shortcut: str = option("blur-first", choices=("blur-first", "conv", "keep"))
    average_pool: str = option("dense", choices=("dense", "replace", "keep"))


@dataclass(frozen=True)
class SitePass(BlurOptions, ABC):
    """What is done to one site.

    Attributes:
        name: The plan's word for it, under "placement".
        in_front: Whether the blur goes in front of the operator.
        offered: Kinds of sites at which a search may try it in place of the recipe's.
    """

    name: ClassVar[str]
    in_front: ClassVar[bool] = False
    offered: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def wanted(cls, site: Site, options: SiteOptions) -> Self | None:
        """What the options ask of this pass at a site; None: another pass' business. The first that wants it has it."""

    @abstractmethod
    def fit(self, site: Site, dense: Window) -> Match | Skip:
        """The geometry, or why it cannot be done here; `dense` is the operator's window with explicit pads."""

    @abstractmethod
    def says(self, site: Site, match: Match) -> str:
        """The table's words."""

    @abstractmethod
    def apply(self, editor: GraphEditor, located: Located, match: Match) -> str:
        """Do it, and return the name of the node that filters now. The one place that changes the graph."""

    def match(self, site: Site) -> Match | Skip:
        """The geometry, worked out from values alone, or why it cannot be done here."""
        if site.obstacle or site.dense is None:
            return Skip(site.obstacle or "its pads are not known")
        return self.fit(site, site.dense)

    def macs(self, site: Site, match: Match, before: int, input_size: Sizes, output_size: Sizes) -> int:
        """Multiply-accumulates of the site at these (known) sizes, `before` being those of the operator as it was: here
        the operator runs as often as before, behind a blur."""
        return before + match.blur.macs(input_size) * (site.input_channels or 0)

    @classmethod
    def of(cls, options: BlurOptions, **more: object) -> Self:
        """The pass with its fields from the options, or from another pass, but for those given."""
        own, given = ({entry.name for entry in dataclasses.fields(kind)} for kind in (cls, options))
        return dataclasses.replace(cls(), **({name: getattr(options, name) for name in own & given} | more))


@dataclass
class Rewritten:
    """A site that was rewritten, and the name of the node that filters there now."""

    located: Located
    match: Match
    filter: str


@dataclass(frozen=True)
class StagePass(ABC):
    """What is done to a set of sites of the main graph at once, as a part of a plan; further fields are its options.

    Attributes:
        sites: The names of the operators that it begins at.
        name: The plan's word for it, under "do".
        Options: A frozen dataclass: what a recipe may say of it, each field a key of the recipe.
        key: Of the model's metadata, under which it leaves a record.
        refusal: How a note begins that says why it is not done.
        nowhere: Why, where there is nothing to begin at.
        again: Why, where an earlier run did it.
        takes_sites: Whether its sites' strides go, so that nothing else is done to them.
        at_sites: Whether it begins at sites; else `sites` names inputs of the model, and its notes tell of it.
        entry: How plans of format 1 marked its sites: a key of the site's entry and the value; "" where they did not.
    """

    sites: tuple[str, ...] = option(holds=bool, says="a list of node names")

    name: ClassVar[str]
    Options: ClassVar[type]
    key: ClassVar[str]
    refusal: ClassVar[str]
    nowhere: ClassVar[str]
    again: ClassVar[str]
    takes_sites: ClassVar[bool] = False
    at_sites: ClassVar[bool] = True
    entry: ClassVar[tuple[str, object]] = ("", None)

    @classmethod
    @abstractmethod
    def wanted(cls, reading: Reading, asked: Asked) -> Self | None:
        """What the recipe's options, an instance of `Options`, ask for, be it with no site; None: nothing."""

    @abstractmethod
    def check(self, reading: Reading) -> None:
        """Whether it can begin at its sites.

        Raises:
            CannotHandle: It cannot; the message names the node and the reason.
        """

    @abstractmethod
    def apply(self, reading: Reading, twin: bool) -> tuple[Reading, Record]:
        """Do it; returns the graph to go on with and the record for the metadata. In the twin every value that the
        original computes is the original's."""

    @property
    def frames(self) -> Frames:
        """The inputs whose size it changes or settles: what lies around what the original would be given."""
        return {}

    @property
    def more_outputs(self) -> int:
        """How many outputs it adds behind the model's."""
        return 0

    def says(self, site: Site) -> str:
        """The table's words for one of its sites."""
        return ""

    def notes(self, reading: Reading) -> tuple[str, ...]:
        """What the user should know of it."""
        return ()

    @classmethod
    def earlier(cls, model: Model) -> dict[str, str]:
        """Nodes of the main graph that an earlier run of it made or relies on: they are kept, with this reason."""
        return {}

    def fit(self, reading: Reading) -> Self | Skip:
        """It, or why it cannot begin at its sites."""
        try:
            self.check(reading)
        except CannotHandle as error:
            return Skip(error.message)
        return self

    @classmethod
    def propose(cls, reading: Reading, asked: Asked, left: Collection[str]) -> Self | Skip | None:
        """What the recipe's options ask for; None: nothing. `left` are sites that the user wants left alone.

        1. There is an operator to begin at. 2. All of them are sites. 3. None is to be left. 4. No earlier run did it.
        5. It can be done there.
        """
        wanted = cls.wanted(reading, asked)
        if wanted is None:
            return None
        sites = wanted.sites
        reasons = [f"{name} is no site" for name in sites if cls.at_sites and ("", name) not in reading.places]
        reasons = [f"{name} is left out on request" for name in sites if name in left] or reasons
        reasons = [cls.again] if recorded(reading.model, cls.key) else reasons if sites else [cls.nowhere]
        found = Skip(reasons[0]) if reasons else wanted.fit(reading)
        return Skip(f"{cls.refusal}: {found.reason}") if isinstance(found, Skip) else found


class GraphPass(ABC):
    """A fold of the whole graph that changes no value.

    Attributes:
        told: Behind how many, what of the blurs that were in the model before it has changed.
        saves: Whether the model then costs less.
    """

    told: ClassVar[str] = ""
    saves: ClassVar[bool] = False

    @abstractmethod
    def apply(self, reading: Reading, rewritten: Sequence[Rewritten]) -> int:
        """Do it wherever it is possible and return how often."""
