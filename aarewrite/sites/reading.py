"""A graph, read once: what every pass looks at, in place of graph, shapes and sites handed around one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model
from aarewrite.model.shapes import Shapes
from aarewrite.sites.find import find, node_names
from aarewrite.sites.site import Located, Source

InputShapes = Mapping[str, Sequence[int]]


@dataclass(eq=False)
class Reading:
    """A graph and what was read of it before any pass changed it."""

    editor: GraphEditor  # the graph, the one thing that changes
    input_shapes: InputShapes = field(default_factory=dict)  # that the user gave for inputs the model leaves open
    tidied: Mapping[str, int] = field(default_factory=dict)  # what was folded when it was opened, and how often
    dearer: Model | None = None  # the model before what was folded that costs less now; None: nothing was

    @property
    def model(self) -> Model:
        """The model as it was read."""
        return self.editor.model

    @property
    def main(self) -> Scope:
        """The main graph."""
        return self.editor.scopes[0]

    @cached_property
    def shapes(self) -> Shapes:
        """Types of all tensors.

        Raises:
            UsageError: `input_shapes` does not fit the model.
        """
        return Shapes(self.editor, self.input_shapes)

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for every node, by id."""
        return node_names(self.editor)

    @cached_property
    def _found(self) -> tuple[list[Located], list[Source]]:
        return find(self.editor, self.shapes, self.names)

    @property
    def located(self) -> list[Located]:
        """Every site, in graph order."""
        return self._found[0]

    @property
    def sources(self) -> list[Source]:
        """Whatever else samples, or is a blur already."""
        return self._found[1]

    @cached_property
    def places(self) -> dict[tuple[str, str], Located]:
        """The sites by scope and node name."""
        return {(place.site.scope, place.site.node): place for place in self.located}

    def again(self) -> Reading:
        """The graph as it is now, exported and read anew: nothing of the old shapes stays."""
        return Reading(GraphEditor(self.editor.export()), self.input_shapes)
