"""The options that commands share, declared once; which option means nothing without another, and what is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperOption

from aarewrite.errors import UsageError
from aarewrite.outputs import check_outputs

if TYPE_CHECKING:
    from aarewrite.model.model_file import Model

Rules = Mapping[str, tuple[str, ...]]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model to read.")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write everything found as JSON; - is stdout.")
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME:1x3x224x224", help="Shape of an input that the model leaves open."),
]
Labels = Annotated[str | None, typer.Option(help="CSV with the columns file and class_index (and name).")]
Preprocess = Annotated[str | None, typer.Option(help="imagenet, caffe, raw255, unit, pm1, none, or a .toml file.")]
Provider = Annotated[str, typer.Option(help="cpu, cuda or all.")]
Protocol = Annotated[str, typer.Option(help="Any of crop,circular,fractional.")]
MaxShift = Annotated[int | None, typer.Option(help="Largest shift of the agreement over distance, px.")]
Layers = Annotated[bool, typer.Option("--layers", help="Measure every downsampling layer.")]
Limit = Annotated[int | None, typer.Option(help="Use only the first N samples.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Report = Annotated[Path | None, typer.Option("--report", metavar="OUT.html", help="Write a self-contained HTML page.")]
MinConsistency = Annotated[float | None, typer.Option(help="Exit 1 below this consistency (0..1).")]
MaxDiff = Annotated[float | None, typer.Option(help="Exit 1 above this absolute difference of the outputs.")]


class Command(TyperCommand):
    """A command that refuses options that would do nothing: without their owner, or beside what excludes them."""

    owners: ClassVar[Rules] = {}  # parameter -> those of which one must be given with it
    excludes: ClassVar[Rules] = {}  # parameter -> those that mean nothing beside it

    def get_params(self, ctx: Any) -> list[Any]:
        """Every parameter, its help beginning with its owners."""
        params = super().get_params(ctx)
        for param in (param for param in params if isinstance(param, TyperOption)):
            owners = " or ".join(map(self._option, self.owners.get(param.name or "", ())))
            if owners and not (param.help or "").startswith("With "):
                param.help = f"With {owners}: {param.help}"
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; what was given on the command line is looked at, be it equal to the default or not.

        Raises:
            UsageError: An option would do nothing; the message names it and its owner.
        """
        rest = super().parse_args(ctx, args)
        given = [p.name for p in self.params if getattr(ctx.get_parameter_source(p.name), "name", "") == "COMMANDLINE"]
        for name in given:
            option, owners = self._option(name), [self._option(owner) for owner in self.owners.get(name, ())]
            if owners and not set(self.owners[name]) & set(given):
                raise UsageError(
                    f"{option} does nothing without {' or '.join(owners)}", f"add {owners[0]}, or leave {option} out"
                )
            if other := next((self._option(other) for other in self.excludes.get(name, ()) if other in given), None):
                raise UsageError(f"{option} and {other} exclude each other", "leave one of them out")
        return rest

    def _option(self, name: str) -> str:
        return next(param.opts[0] for param in self.params if param.name == name)


def check_files(
    models: Iterable[tuple[str, Model]],
    reads: Mapping[str, str | Path | None],
    writes: Iterable[tuple[str, str | Path | None]],
) -> None:
    """Refuse, before the work, outputs that cannot be written or that the command reads.

    Args:
        models: What each is called, and the model; its external data files are read as well.
        reads: Option -> what it was given: a file, a folder of images, or a name that is neither.
        writes: Option and file.

    Raises:
        UsageError: As `check_outputs`.
    """
    from aarewrite.data.sources import IMAGE_SUFFIXES
    from aarewrite.model.model_file import external_files

    inputs = [(f"what {option} reads", Path(given)) for option, given in reads.items() if given]
    for what, model in models:
        inputs += [(what, model.path)] if model.path else []
        inputs += [(f"a data file of {what}", model.folder / location) for location in external_files(model.proto)]
    check_outputs(inputs, writes, IMAGE_SUFFIXES)


def parse_inputs(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """The shapes of `--input NAME:1x3x224x224`, by name.

    Raises:
        UsageError: A text is not of this form.
    """
    shapes = {}
    for text in texts or ():
        name, _, dims = text.rpartition(":")
        sizes = parse_sizes(dims)
        if not name or not sizes:
            raise UsageError(f"--input {text!r} is not NAME:SHAPE", "write it like data:1x3x224x224")
        shapes[name] = sizes
    return shapes


def parse_sizes(text: str) -> tuple[int, ...]:
    """240x320 as (240, 320); () for what is no such text."""
    sizes = text.lower().split("x")
    good = all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes)
    return tuple(int(size) for size in sizes) if good else ()
