"""Putting it together: open model and data, one pass over the samples, then layers, parity and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from aarewrite.data.camera import CONDITIONS
from aarewrite.data.geometry import Sample
from aarewrite.data.preprocess import Preprocess
from aarewrite.data.setup import Setup, beside, open_setup
from aarewrite.data.sources import open_pairs
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model, ModelLike, cuda_available
from aarewrite.options import Json
from aarewrite.progress import progress_bar
from aarewrite.verification.camera import CameraResult, CameraStudy, OwnPairsStudy, PairsResult
from aarewrite.verification.classify import Classification, ClassifyStudy
from aarewrite.verification.engine import BATCH, Result, Study, run_studies
from aarewrite.verification.equivariance import LayerResult, measure_layers
from aarewrite.verification.maps import MapResult, MapStudy, Task, infer_task
from aarewrite.verification.metric import MetricResult, MetricStudy
from aarewrite.verification.parity import Parity, Placement, compare, compare_with_file, node_placement, run_model
from aarewrite.verification.plausible import preprocessing_doubt
from aarewrite.verification.preconditions import find_violations
from aarewrite.verification.protocols import PROTOCOLS, ShiftPlan, plan_shifts
from aarewrite.verification.result import CircularClaim, VerifyReport
from aarewrite.version import __version__

PROVIDERS = ("cpu", "cuda", "all")
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
    layers: bool = False,
    heat_map: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    task: str | None = None,
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
        protocols: Any of `camera`, `crop`, `circular`, `fractional`; by default `camera` and `crop` for classifiers
            of pictures (images, or uint8 arrays with 1 or 3 channels), `crop` for everything else.
        severity: Multiplies what the camera does, 0 to 4; at 0 its far pairs are those of `crop`, bit for bit.
        conditions: Those of the camera, any of `CONDITIONS`, by default all.
        camera_pairs: Pairs of the camera's views, near and as many far ones, a sample and condition.
        own_pairs: CSV of pairs of images (`file_a`, `file_b`, optionally `class_index` and `cluster`, what a pair is
            from), for classifiers.
        max_shift: Largest distance of the agreement over distance, px; by default up to 8.
        worst_radius: r of the worst case, px; costs (2r + 1)^2 views an image.
        layers: Measure every downsampling layer on the first samples.
        heat_map: Downsampling layer whose heat map is measured; by default the one that adds most error.
        limit: Use only the first so many samples.
        seed: Seed of every random choice.
        task: `classify`, `dense`, `metric` or `vector`; inferred from the outputs by default.
        size: Spatial input size where the model leaves it open, px.
        batch: Views a run; by default 8 on the CPU and 64 on CUDA.
        batch_offsets: Samples that share their random offsets; 1 draws them for every sample.
        pairs: Pairs of random views a sample that the consistency is taken from; 1 is the paper's protocol.
        min_consistency: Fail when the model's consistency (pixel agreement for class maps) is lower, 0..1; under
            `crop`, `circular` and `fractional`.
        min_near: Fail when the model's near agreement under the camera, pooled over conditions, is lower, 0..1.
        max_diff: Fail when any output differs more from `against` (or between providers), absolute.
        names: Labels of model and `against` in the report.
        plan: Rows of the rewrite's plan, shown in the report.
        trials: What a calibration tried (`Calibrated.to_dict()["trials"]`), drawn in the report.
        progress: Show progress bars on stderr when it is a terminal.

    Returns:
        The report; `report.failures` says which checks failed, nothing is raised for them.

    Raises:
        UsageError: The request or the data are wrong.
        CannotHandle: The model or this machine cannot do it.
        CheckFailed: The model's output is NaN.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"--provider {provider}: unknown", f"use one of {', '.join(PROVIDERS)}")
    for option, share in (("consistency", min_consistency), ("near", min_near)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"--min-{option} {share}: not a share", "give a number from 0 to 1, such as 0.9")
    if max_diff is not None and not max_diff >= 0:
        raise UsageError(f"--max-diff {max_diff}: not a difference", "give a number of at least 0")
    if max_diff is not None and against is None and provider == "cpu":
        raise UsageError("--max-diff: nothing to compare with", "add --against or --provider all")
    own = None if own_pairs is None else open_pairs(own_pairs, limit)
    alone = own is not None and data is None
    setup = open_setup(
        model, own if own and alone else data or "synthetic", against=against, names=names, provider=provider,
        preprocess=preprocess, labels=labels, limit=limit, seed=seed, size=size,
    )  # fmt: skip
    notes = list(setup.notes)
    tasks = _tasks(setup, task)
    kind = tasks[0].name
    of_camera = {
        "--severity": severity != 1, "--conditions": conditions is not None, "--camera-pairs": camera_pairs != 1,
        "--min-near": min_near is not None,
    }  # fmt: skip
    of_crops = {"--crop-pairs": pairs != 1, "--batch-offsets": batch_offsets != 1}
    of_data = {"--labels": labels is not None}
    if kind != "classify":
        _refuse_idle(of_data | of_crops | of_camera | {"--pairs": own is not None}, f"for task {kind}")
    if alone:
        _refuse_idle(of_data | {"--protocol": protocols is not None}, "for --pairs without --data")
    chosen = () if alone else _protocols(protocols, setup, kind, notes)
    shifted = [protocol for protocol in chosen if protocol != "camera"]
    if "camera" not in chosen:
        _refuse_idle(of_camera, "without camera in --protocol")
    if not shifted:
        of_shifts = {"--max-shift": max_shift is not None, "--min-consistency": min_consistency is not None}
        _refuse_idle(of_crops | of_shifts, "without crop, circular or fractional in --protocol")
    if max_shift is not None and set(shifted) == {"fractional"}:
        raise UsageError("--max-shift does nothing with fractional shifts alone", "add crop or circular to --protocol")
    outputs = [task.grids[0].output for task in tasks]
    if kind == "classify" and (doubt := preprocessing_doubt(setup)):
        notes.append(doubt)
    furthest = max_shift or min(3, setup.geometry.reach) if kind == "metric" else max_shift
    studies: list[Study] = [
        _study(plan_shifts(protocol, setup.geometry, furthest, seed, batch_offsets, worst_radius, pairs), setup, tasks)
        for protocol in shifted
    ]
    if "camera" in chosen:
        wanted = CONDITIONS if conditions is None else conditions
        studies.insert(0, CameraStudy(setup, outputs, wanted, severity, camera_pairs))
    rounds = [(setup, studies)]  # the data, and what is measured on them
    if own is not None:
        of_pairs = setup if alone else beside(setup, own, preprocess, size)
        notes += [note for note in of_pairs.notes if note not in notes]
        rounds = [*rounds[alone:], (of_pairs, [OwnPairsStudy(of_pairs, outputs)])]
    kept = dict[int, Sample]()

    def load(i: int) -> Sample:
        sample = setup.sample(i)
        if i < KEPT_SAMPLES:
            kept[i] = sample
        return sample

    one_by_one = any(m.constants for m in setup.models)
    batch = batch or (1 if one_by_one else BATCH[setup.models[0].provider])
    views = sum(study.count(i) for where, measures in rounds for study in measures for i in range(len(where.data)))
    with progress_bar(f"shifting {len(setup.data)} samples", views, progress) as advance:
        for where, measures in rounds:
            sampled = load if where is setup else where.sample
            run_studies(setup.models, sampled, len(where.data), measures, batch, advance)
    first = [kept[i] for i in sorted(kept)]
    claims = _circular_claims(setup, shifted, notes)
    measured = _layers(setup, first, heat_map, progress, notes) if layers else ()
    parity, placement = _parity(setup, first, provider, max_diff, notes)
    results: list[Result] = [
        result
        for _, measures in rounds
        for study in measures
        for m in range(len(setup.models))
        for result in study.results_of(m)
    ]
    classifiers = [study for study in studies if isinstance(study, ClassifyStudy)]
    report = VerifyReport(
        setup.models[0].label, setup.against_label, kind, tasks[0].why, setup.data.description, len(setup.data),
        setup.recipe.describe(), f"{setup.spec.name}: {setup.spec.describe()}", setup.geometry.describe(), seed,
        setup.models[0].provider,
        camera=tuple(result for result in results if isinstance(result, CameraResult)),
        pairs=tuple(result for result in results if isinstance(result, PairsResult)),
        classification=tuple(result for result in results if isinstance(result, Classification)),
        changes=tuple(change for study in classifiers for change in study.changes()),
        maps=tuple(result for result in results if isinstance(result, MapResult)),
        metrics=tuple(result for result in results if isinstance(result, MetricResult)),
        circular=claims, layers=measured, parity=parity, placement=placement,
        flips=tuple(classifiers[0].flips) if classifiers else (),
        flip_counts=classifiers[0].flip_counts() if classifiers else None,
        class_names=setup.data.class_names, notes=tuple(notes), plan=tuple(plan), trials=tuple(trials),
        versions={"aarewrite": __version__, "onnxruntime": ort.__version__, "numpy": np.__version__},
    )  # fmt: skip
    return replace(report, failures=_failures(report, min_consistency, min_near))


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
    measure: Callable[..., VerifyReport] = verify
    return measure(after, data, against=before, names=names, **options)


def _tasks(setup: Setup, asked: str | None) -> list[Task]:
    """Every model's task, which must be the same and have the samples it needs."""
    tasks = [infer_task(model, setup.geometry, asked) for model in setup.models]
    if len({task.name for task in tasks}) > 1:
        told = (f"{model.label} {task.name}" for model, task in zip(setup.models, tasks, strict=True))
        raise CannotHandle(f"the models' tasks differ: {', '.join(told)}", "set --task")
    if tasks[0].name == "metric" and setup.data.kind == "arrays" and not setup.data.triplets:
        raise UsageError("a two-input metric needs arrays ref, p0 and p1 in the .npz", "add them")
    return tasks


def _refuse_idle(given: Mapping[str, bool], where: str) -> None:
    """Refuse the first option that was given and would do nothing."""
    if option := next((option for option, was in given.items() if was), None):
        raise UsageError(f"{option} does nothing {where}", f"leave {option} out")


def _protocols(asked: Sequence[str] | None, setup: Setup, kind: str, notes: list[str]) -> tuple[str, ...]:
    """The protocols asked for, each once, or those that suit: the camera's where it can be, and crops."""
    why_not = setup.no_pictures if kind == "classify" else f"task {kind} has no classes to agree"
    if asked is None:
        notes += [f"measured by crops alone, not under a camera: {why_not}"] if why_not else []
        return ("crop",) if why_not else ("camera", "crop")
    if unknown := next((name for name in asked if name not in ("camera", *PROTOCOLS)), None):
        raise UsageError(f"--protocol {unknown}: unknown", f"use camera, {', '.join(PROTOCOLS)}")
    if not asked:
        raise UsageError("--protocol: none given", f"use camera, {', '.join(PROTOCOLS)}")
    if "camera" in asked and why_not:
        next_step = "use crop, or give photographs with --data" if kind == "classify" else "use crop"
        raise UsageError(f"--protocol camera: {why_not}", next_step)
    return tuple(dict.fromkeys(asked))


def _study(plan: ShiftPlan, setup: Setup, tasks: Sequence[Task]) -> Study:
    views, labels = Views(plan.protocol, setup.geometry, setup.axes), [model.label for model in setup.models]
    outputs = [task.grids[0].output for task in tasks]
    if tasks[0].name == "classify":
        return ClassifyStudy(plan, views, labels, outputs, setup.data)
    if tasks[0].name == "metric":
        return MetricStudy(plan, views, labels, outputs)
    return MapStudy(plan, views, labels, [task.grids for task in tasks], tasks[0].name)


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
    setup: Setup, kept: Sequence[Sample], provider: str, max_diff: float | None, notes: list[str]
) -> tuple[tuple[Parity, ...], tuple[Placement, ...]]:
    model = setup.models[0]
    feeds = [setup.centre(sample) for sample in kept]
    ran, on_cuda = f"the centre crops of the first {len(feeds)} samples", model.provider == "cuda"

    def compared(first: Model, second: Model, cuda: bool, required: bool) -> Parity:
        got, want = run_model(first, feeds), run_model(second, feeds)
        return compare(first.label, second.label, got, want, ran, max_diff=max_diff, cuda=cuda, required=required)

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
    measured = [(what, found.value) for model, what, found in (*shares, *agree) if found and model == report.model]
    if not measured:
        reason = f"--min-consistency: task {report.task} has no classes to be consistent"
        raise UsageError(reason, "leave the option out")
    low = [(what, value) for what, value in measured if not value >= min_consistency]
    failures += [f"{what} of {report.model} is {value:.4f}, below {min_consistency:g}" for what, value in low]
    return tuple(failures)
