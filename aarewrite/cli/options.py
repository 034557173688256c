"""The options that commands share, declared once; which option means nothing without another, and what is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option
from typer.core import TyperOption

from aarewrite.errors import UsageError
from aarewrite.outputs import STDOUT, check_outputs, text_output
from aarewrite.texts import number

if TYPE_CHECKING:
    from aarewrite.model.model_file import Model
    from aarewrite.verification.result import VerifyReport


def in_a_process_of_its_own(wanted: bool) -> None:
    """Start the program again with the same words, unless this is that process, and end as it ends."""
    if wanted:
        from aarewrite.cli.isolation import begin, run_isolated

        if not begin():
            run_isolated(sys.argv[1:])


ModelFile = Annotated[Path, Argument(metavar="MODEL.onnx", help="The model to read.")]
Quiet = Annotated[bool, Option("-q", "--quiet", help="Print no table and no progress.")]
Json = Annotated[str | None, Option("--json", metavar="FILE|-", help="Write everything found as JSON; - is stdout.")]
InputShapes = Annotated[
    list[str] | None, Option(metavar="NAME:1x3x224x224", help="Shape of an input that the model leaves open.")
]
Labels = Annotated[str | None, Option(help="CSV or .jsonl with the columns file and class_index (and name).")]
Preprocess = Annotated[
    str | None,
    Option(help="imagenet, caffe, raw255, unit, pm1, none, a .toml file, or a model's preprocessor_config.json."),
]
Provider = Annotated[str, Option(help="cpu, cuda or all.")]
Protocol = Annotated[
    str | None,
    Option(
        help="Any of camera,corruptions,crop,circular,fractional. [default: camera,crop for classifiers of pictures]"
    ),
]
MaxShift = Annotated[int | None, Option(help="Largest shift of the agreement over distance, px.")]
Layers = Annotated[bool, Option("--layers", help="Measure every downsampling layer.")]
Limit = Annotated[int | None, Option(help="Use only the first N samples.")]
Seed = Annotated[int, Option(help="Seed of every random choice.", min=0)]
Report = Annotated[Path | None, Option(metavar="OUT.html", help="Write a self-contained HTML page.")]
MinConsistency = Annotated[
    float | None, Option(help="Exit 1 below this consistency (0..1), of crop and what else is no camera.")
]
Decode = Annotated[
    str | None, Option(metavar="auto|PROFILE.toml", help="How a detector's outputs are decoded. [default: auto]")
]
MaxDiff = Annotated[float | None, Option(help="Exit 1 above this absolute difference of the outputs.")]

Isolate = Annotated[
    bool,
    Option(
        "--isolate", callback=in_a_process_of_its_own, is_eager=True,
        help="Run in a process of its own: where a library crashes or hangs on the model, that is one line.",
    ),
]  # fmt: skip

# Parameter -> others: those of which one must be given with it, or those that mean nothing beside it.
Rules = Mapping[str, tuple[str, ...]]


def say_owners(params: Iterable[object], owners: Rules) -> None:
    """Let the help of every option begin with its owners."""
    options = {param.name: param for param in params if isinstance(param, TyperOption)}
    for name, needed in owners.items():
        options[name].help = f"With {' or '.join(options[owner].opts[0] for owner in needed)}: {options[name].help}"


def refuse_idle(ctx: Context, owners: Rules, excludes: Rules) -> None:
    """Refuse an option that was given, be it with its default's value, and that would do nothing; and numbers that
    are none.

    Raises:
        UsageError: The message names it, and its owner or what excludes it.
    """
    options = {param.name or "": param.opts[0] for param in ctx.command.params}
    sources = {name: ctx.get_parameter_source(name) for name in options}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    for name in given:
        if isinstance(value := ctx.params[name], float) and not math.isfinite(value):
            raise UsageError(f"{options[name]} {value}: out of range", "give a number")
    for name in given:
        option, needed = options[name], owners.get(name, ())
        if needed and not set(needed) & set(given):
            either = " or ".join(options[owner] for owner in needed)
            next_step = f"add {options[needed[0]]}, or leave {option} out"
            raise UsageError(f"{option} does nothing without {either}", next_step)
        if other := next((other for other in excludes.get(name, ()) if other in given), None):
            raise UsageError(f"{option} and {options[other]} exclude each other", "leave one of them out")


def refuse_others(ctx: Context, known: Collection[str], why: str) -> None:
    """Refuse options that were given and are none of those that do something here.

    Raises:
        UsageError: The message names it, and why.
    """
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        if source is not None and source.name == "COMMANDLINE" and param.name not in known:
            raise UsageError(f"{param.opts[0]} does nothing {why}", "leave it out")


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
    from aarewrite.data.images import IMAGE_SUFFIXES
    from aarewrite.model.model_file import external_files

    inputs = [(f"what {option} reads", Path(given)) for option, given in reads.items() if given]
    for what, model in models:
        inputs += [(what, model.path)] if model.path else []
        inputs += [(f"a data file of {what}", model.folder / location) for location in external_files(model.proto)]
    check_outputs(inputs, writes, IMAGE_SUFFIXES)


def data_files(model: Model, target: Path | None) -> list[tuple[str, Path]]:
    """The data files that are copied beside the model's target, as further outputs."""
    from aarewrite.model.model_file import data_files_to_bring, external_files

    if target is None:
        return []
    if str(target) == STDOUT and external_files(model.proto):
        raise UsageError("-o -: the model keeps weights in files of their own", "give a file")
    brought = data_files_to_bring(model, target).values()
    return [("-o", path) for path in brought if path.parent.is_dir()]


def parse_inputs(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """The shapes of `--input NAME:1x3x224x224`, by name.

    Raises:
        UsageError: A text is not of this form.
    """
    shapes = {}
    for text in texts or ():
        name, _, dims = text.rpartition(":")
        shapes[name] = parse_sizes(dims)
        if not name or not shapes[name]:
            raise UsageError(f"--input {text!r} is not NAME:SHAPE", "write it like data:1x3x224x224")
    return shapes


def parse_sizes(text: str) -> tuple[int, ...]:
    """240x320 as (240, 320); () for what is no such text."""
    sizes = [number(size) or 0 for size in text.lower().split("x")]
    return tuple(sizes) if all(sizes) else ()


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """The names in `crop,circular`; None for none given."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def deliver(found: VerifyReport, json: str | None, report: Path | None, quiet: bool = False) -> None:
    """Print a report if not `quiet`, write it where it is asked for, and raise its failures."""
    from aarewrite.show.verification_table import print_report

    if not quiet and STDOUT not in (json, str(report)):
        print_report(found)
    with text_output(report, html_page(found, report)), text_output(json, found.to_json()):
        pass
    found.raise_for_failures()


def html_page(found: VerifyReport, path: Path | None) -> str:
    """The page, where one is asked for: nothing else needs jinja2."""
    if path is None:
        return ""
    from aarewrite.show.page import render_html

    return render_html(found)
