"""Putting it together: open model and data, one pass over the samples, then layers, parity and limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from aarewrite.data.geometry import Sample
from aarewrite.data.preprocess import Preprocess
from aarewrite.data.setup import Setup
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model, ModelLike, cuda_available
from aarewrite.options import Json
from aarewrite.progress import progress_bar
from aarewrite.verification.camera import CameraResult, PairsResult
from aarewrite.verification.classify import Classification, ClassifyStudy
from aarewrite.verification.corruptions import CorruptionResult, loss
from aarewrite.verification.detect import DetectResult, DetectStudy
from aarewrite.verification.embed import EmbedResult, EmbedStudy
from aarewrite.verification.engine import Result
from aarewrite.verification.equivariance import LayerResult, measure_layers
from aarewrite.verification.job import VERSIONS, Asked, Job, open_job
from aarewrite.verification.maps import MapResult
from aarewrite.verification.measure import measure
from aarewrite.verification.metric import MetricResult
from aarewrite.verification.parity import Parity, Placement, compare, compare_with_file, node_placement, run_model
from aarewrite.verification.plausible import preprocessing_doubt
from aarewrite.verification.preconditions import find_violations
from aarewrite.verification.result import CircularClaim, VerifyReport

KEPT_SAMPLES = 4  # samples that layers and parity run on


def verify(
    model: ModelLike,
    data: str | Path | None = None,
    *,
    against: ModelLike | None = None,
    labels: str | Path | None = None,
    preprocess: str | Preprocess | None = None,
    provider: str = "cpu",
    protocols: Sequence[str] | None = None,
    severity: float = 1.0,
    conditions: Sequence[str] | None = None,
    camera_pairs: int = 1,
    own_pairs: str | Path | None = None,
    max_shift: int | None = None,
    worst_radius: int = 1,
    threshold: float | None = None,
    corruptions: Sequence[str] | None = None,
    layers: bool = False,
    heat_map: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    task: str | None = None,
    decode: str | None = None,
    margin: float = 0,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    batch_offsets: int = 1,
    pairs: int = 1,
    min_consistency: float | None = None,
    min_near: float | None = None,
    max_diff: float | None = None,
    names: tuple[str, str] | None = None,
    plan: Sequence[Json] = (),
    trials: Sequence[Json] = (),
    strict: bool = False,
    resume: Path | None = None,
    ray: str | None = None,
    threads: int = 0,
    progress: bool = False,
) -> VerifyReport:
    """Measure how shift-invariant a model is and how it compares numerically with another.

    Args:
        model: Path or ModelProto; never changed.
        data: Folder of images, .npy/.npz of samples, or `synthetic[:N]`, which is the default without `own_pairs`.
        against: Another model (path or ModelProto), or an .npz of saved outputs (with the inputs they belong
            to, under the model's input names; otherwise the first samples of `data` are used).
        labels: CSV with columns `file` and `class_index`, optionally `name`.
        preprocess: Preset name, TOML file or `Preprocess`; by default `imagenet` for images and bytes (`unit`
            for one channel, `raw255` for integer inputs) and `none` for floating-point arrays and noise.
        provider: `cpu`, `cuda`, or `all` (measures on the CPU, parity and placement with CUDA where it is).
        protocols: Any of `camera`, `corruptions`, `crop`, `circular`, `fractional`; by default `camera` and `crop` for
            classifiers of pictures (images, or uint8 arrays with 1 or 3 channels), `crop` for everything else.
        severity: Multiplies what the camera does, 0 to 4; at 0 its far pairs are those of `crop`, bit for bit.
        conditions: Those of the camera, any of `CONDITIONS`, by default all.
        camera_pairs: Pairs of the camera's views, near and as many far ones, a sample and condition.
        own_pairs: CSV of pairs of images (`file_a`, `file_b`, optionally `class_index` and `cluster`, what a pair is
            from), for classifiers.
        max_shift: Largest distance of the agreement over distance, px; by default up to 8.
        worst_radius: r of the worst case, px; costs (2r + 1)^2 views an image.
        threshold: Confidence from which on a class counts as decided, 0..1, for classifiers.
        corruptions: Kinds of them, any of `KINDS`, by default all, for the protocol of that name.
        layers: Measure every downsampling layer on the first samples.
        heat_map: Downsampling layer whose heat map is measured; by default the one that adds most error.
        limit: Use only the first so many samples.
        seed: Seed of every random choice.
        task: One of `TASKS`; inferred from the outputs by default.
        decode: How a detector's outputs are decoded: a built-in profile's name, a TOML file or, by default, `auto`.
        margin: px by which the region is shrunk in which detections are compared.
        size: Spatial input size where the model leaves it open, px.
        batch: Views a run; by default 4 on the CPU and 64 on CUDA.
        batch_offsets: Samples that share their random offsets; 1 draws them for every sample.
        pairs: Pairs of random views a sample that the consistency is taken from; 1 is the paper's protocol.
        min_consistency: Fail when the model's consistency (pixel agreement for class maps) is lower, 0..1; under
            `crop`, `circular` and `fractional`.
        min_near: Fail when the model's near agreement under the camera, pooled over conditions, is lower, 0..1.
        max_diff: Fail when any output differs more from `against` (or between providers), absolute.
        names: Labels of model and `against` in the report.
        plan: Rows of the rewrite's plan, shown in the report.
        trials: What a calibration tried (`Calibrated.to_dict()["trials"]`), drawn in the report.
        strict: A sample that cannot be read as it is ends the run; by default it is listed.
        resume: File that what is found is kept in while it takes more than a few seconds; where it is there, and of the
            same models, samples and options, the run goes on from it.
        ray: Address of a Ray cluster whose workers measure, `auto` for one that was started here, `local` for one that
            is started for this run.
        threads: Of one operator; 0: up to four batches run side by side and share the cores; with 1 all is done on one
            core.
        progress: Show progress bars on stderr when it is a terminal.

    Returns:
        The report; `report.failures` says which checks failed, nothing is raised for them.

    Raises:
        UsageError: The request or the data are wrong.
        CannotHandle: The model or this machine cannot do it.
        CheckFailed: An output is NaN or infinite.
    """
    return run_job(Asked(**locals()))


def run_job(asked: Asked) -> VerifyReport:
    """Measure what was asked for; errors as of `verify`."""
    job = open_job(asked)
    job.count(measure(job, job.blocks()))
    return conclude(job)


def before_after(
    before: ModelLike,
    after: ModelLike,
    data: str | Path,
    *,
    names: tuple[str, str] = ("after", "before"),
    **options: object,
) -> VerifyReport:
    """Verify a rewritten model, which the limits apply to, against the one it was made from; else as `verify`.

    Call the report's `raise_for_failures()` before writing anything.
    """
    compared: Callable[..., VerifyReport] = verify
    return compared(after, data, against=before, names=names, **options)


def conclude(job: Job) -> VerifyReport:
    """Make the report of a job whose samples are counted; measure layers and parity, and judge by the limits.

    Raises:
        UsageError: A limit of what was not measured.
        CannotHandle: A model cannot be looked into.
    """
    asked, setup, notes = job.asked, job.setup, list(job.notes)
    kind = job.tasks[0].name
    if kind == "classify" and (doubt := preprocessing_doubt(setup, job.measured[0])):
        notes.append(doubt)
    looked_at = asked.layers or asked.against is not None or asked.provider != "cpu"
    first = [setup.sample(i) for i in job.measured[0][:KEPT_SAMPLES]] if looked_at else []
    claims = _circular_claims(setup, job.protocols, notes)
    measured = _layers(setup, first, asked.heat_map, asked.progress, notes) if asked.layers else ()
    selected = {name for task in job.tasks for name in task.selected}
    parity, placement = _parity(setup, first, asked.provider, asked.max_diff, selected, notes)
    results: list[Result] = [
        result
        for _, studies in job.rounds
        for study in studies
        for m in range(len(setup.models))
        for result in study.results_of(m)
    ]
    spoilt = tuple(result for result in results if isinstance(result, CorruptionResult))
    classifiers = [study for _, studies in job.rounds for study in studies if isinstance(study, ClassifyStudy)]
    detectors = [study for _, studies in job.rounds for study in studies if isinstance(study, DetectStudy)]
    embedders = [study for _, studies in job.rounds for study in studies if isinstance(study, EmbedStudy)]
    report = VerifyReport(
        setup.models[0].label, setup.against_label, kind, job.tasks[0].why, setup.data.description,
        len(job.measured[0]), setup.recipe.describe(), f"{setup.spec.name}: {setup.spec.describe()}",
        setup.geometry.describe(), asked.seed, setup.models[0].provider,
        camera=tuple(result for result in results if isinstance(result, CameraResult)),
        pairs=tuple(result for result in results if isinstance(result, PairsResult)),
        corruptions=spoilt,
        classification=tuple(result for result in results if isinstance(result, Classification)),
        changes=tuple(
            change for found in (classifiers, detectors, embedders) for study in found for change in study.changes()
        ),
        embeddings=tuple(result for result in results if isinstance(result, EmbedResult)),
        detections=tuple(result for result in results if isinstance(result, DetectResult)),
        frames=tuple(frames for study in detectors for frames in study.frames),
        maps=tuple(result for result in results if isinstance(result, MapResult)),
        metrics=tuple(result for result in results if isinstance(result, MetricResult)),
        circular=claims, layers=measured, parity=parity, placement=placement,
        flips=classifiers[0].flips if classifiers else (),
        flip_counts=classifiers[0].flip_counts() if classifiers else None,
        class_names=setup.data.class_names, notes=tuple(notes), plan=tuple(asked.plan),
        trials=tuple(asked.trials), versions=VERSIONS, odd=tuple(job.odd),
    )  # fmt: skip
    seen = [change for one in report.camera[:1] for change in (one.near.change, one.far.change) if change]
    if spoilt and (says := loss(spoilt[0], [*seen, *report.changes])):
        report = replace(report, notes=(*report.notes, says))
    return replace(report, failures=_failures(report, asked.min_consistency, asked.min_near))


def _circular_claims(setup: Setup, protocols: Sequence[str], notes: list[str]) -> tuple[CircularClaim, ...]:
    if not {"circular", "fractional"} & set(protocols):
        return ()
    claims = []
    for model in setup.models:
        try:
            violations = find_violations(open_graph(model, setup.geometry.size))
        except CannotHandle as error:  # the measurement stands without the check; say that it is missing
            notes.append(f"circular preconditions not checked: {error}")
            continue
        claims.append(CircularClaim(model.label, not violations, violations))
    return tuple(claims)


def _layers(
    setup: Setup, kept: Sequence[Sample], heat_map: str | None, progress: bool, notes: list[str]
) -> tuple[LayerResult, ...]:
    if len(setup.models[0].image_inputs) != 1:
        notes.append("--layers: not measured for models with two image inputs")
        return ()
    with progress_bar("looking inside the network", None, progress) as advance:
        canvases = [sample.canvas for sample in kept]
        return measure_layers(setup.models, canvases, setup.geometry, heat_map, advance)


def _parity(
    setup: Setup,
    kept: Sequence[Sample],
    provider: str,
    max_diff: float | None,
    selected: Collection[str],
    notes: list[str],
) -> tuple[tuple[Parity, ...], tuple[Placement, ...]]:
    model = setup.models[0]
    feeds = [setup.centre(sample) for sample in kept]
    ran, on_cuda = f"the centre crops of the first {len(feeds)} samples", model.provider == "cuda"

    def compared(first: Model, second: Model, cuda: bool, required: bool) -> Parity:
        got, want = run_model(first, feeds), run_model(second, feeds)
        return compare(
            first.label, second.label, got, want, ran,
            max_diff=max_diff, cuda=cuda, required=required, selected=selected,
        )  # fmt: skip

    found = [compared(model, other, on_cuda, max_diff is not None) for other in setup.models[1:]]
    placement: list[Placement] = []
    if setup.reference is not None:
        found.append(compare_with_file(setup.reference, model, feeds, ran, max_diff))
    if provider == "cuda" or (provider == "all" and cuda_available()):
        for each in setup.models:
            on, off = (each.twin(each.source, p, f"{each.label} on {p.upper()}") for p in ("cuda", "cpu"))
            placement += [node_placement(each, side.provider, each.feed(feeds[0])) for side in (on, off)]
            found.append(compared(on, off, True, True))
    notes += [
        f"{place.model}: {len(place.fallen_back)} nodes ran on the CPU: {', '.join(place.fallen_back[:5])}"
        for place in placement
        if place.provider == "cuda" and place.fallen_back
    ]
    return tuple(found), tuple(placement)


def _failures(report: VerifyReport, min_consistency: float | None, min_near: float | None) -> tuple[str, ...]:
    failures = [reason for parity in report.parity for reason in parity.failures]
    if min_near is not None and not (near := report.camera[0].near.agreement.value) >= min_near:
        failures.append(f"near agreement under a camera of {report.model} is {near:.4f}, below {min_near:g}")
    if min_consistency is None:
        return tuple(failures)
    shares = [(r.model, f"{r.protocol} consistency", r.consistency) for r in report.classification]
    agree = [(r.model, f"{r.protocol} pixel agreement of {r.output!r}", r.pixel_agreement) for r in report.maps]
    boxes = [(r.model, f"{r.protocol} consistency of detections", r.consistency) for r in report.detections]
    same = [(r.model, f"{r.protocol} share of nearest neighbours that stay", r.neighbour) for r in report.embeddings]
    of_all = (*shares, *agree, *boxes, *same)
    measured = [(what, found.value) for model, what, found in of_all if found and model == report.model]
    if not measured:
        reason = f"--min-consistency: task {report.task} has no classes to be consistent"
        raise UsageError(reason, "leave the option out")
    low = [(what, value) for what, value in measured if not value >= min_consistency]
    failures += [
        f"{what} of {report.model} has no signal in {report.n} samples"
        if math.isnan(value)
        else f"{what} of {report.model} is {value:.4f}, below {min_consistency:g}"
        for what, value in low
    ]
    return tuple(failures)
