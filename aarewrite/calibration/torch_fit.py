"""Fitting a graph's weights in PyTorch: Adam under a cosine that falls to zero with the time, and an average of what it
passes, which is what counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.nn import functional

from aarewrite.calibration.logits import LEAST, are_probabilities
from aarewrite.calibration.torch_graph import TorchGraph
from aarewrite.data.arrays import Array
from aarewrite.data.canvases import Canvases
from aarewrite.errors import CannotHandle, CheckFailed, UsageError
from aarewrite.model.runtime import plain_session
from aarewrite.outputs import write_bytes
from aarewrite.progress import Bar

DEVICES = ("cpu", "cuda")
RATE = 1e-4  # of Adam, relative to a channel's root mean square
MOMENTA = (0.9, 0.99)
WARM = 20  # steps in which the rate rises
AVERAGE = 0.99  # share of the average that a step leaves
BATCH = 16
SAVED = 60.0  # seconds between two states

Weights = Mapping[str, torch.Tensor]


@dataclass
class State:
    """How far it is."""

    step: int = 0
    spent: float = 0.0  # seconds
    losses: list[float] = field(default_factory=list)

    def loss(self) -> tuple[float, float]:
        """Its mean over the first and the last tenth of the steps."""
        some = max(1, len(self.losses) // 10)
        return float(np.mean(self.losses[:some])), float(np.mean(self.losses[-some:]))


class Fitting:
    """A model whose weights are fitted.

    Args:
        model: A classifier of single images with its weights inside.
        device: Where PyTorch computes.
        seed: Of the order in which exposures come.

    Raises:
        UsageError: An unknown device.
        CannotHandle: There is no such device, no weight to fit, or an operator that is not translated.
    """

    def __init__(self, model: onnx.ModelProto, device: str, seed: int) -> None:
        if device not in DEVICES:
            raise UsageError(f"--device {device}: unknown", f"use {' or '.join(DEVICES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise CannotHandle("--device cuda: PyTorch finds no GPU", "use --device cpu")
        self.graph, self._device, self._seed = TorchGraph(model, device=device), device, seed
        if not self.graph.parameters:
            raise CannotHandle("the model has no float32 weights to fit", "take the model before it was converted")
        self._average = {name: weight.detach().clone() for name, weight in self.graph.parameters.items()}
        self._probabilities = self._alone = False

    def agree(self, model: onnx.ModelProto, canvases: Canvases, views: Sequence[Array], tolerance: float) -> None:
        """Hold PyTorch's answers to some views against those that ONNX Runtime gives for the model.

        Raises:
            CheckFailed: They differ by more than the tolerance, relative to the largest value.
        """
        session = plain_session(model)
        name = session.get_outputs()[0].name
        right = np.concatenate([session.run([name], feed)[0] for feed in canvases.feeds(views)])
        self._probabilities, batch = are_probabilities(right), self._tensor(np.stack(views))
        with torch.no_grad():
            try:
                self._alone = len(self.graph(batch, self._average)) != len(views)
            except RuntimeError:  # its graph says that the batch is 1
                self._alone = True
            found = self._run(batch, self._average).cpu().numpy()
        apart = float(np.abs(found - right.reshape(found.shape)).max() / max(float(np.abs(right).max()), 1e-30))
        if not apart <= tolerance:
            reason = f"PyTorch and ONNX Runtime differ by {apart:.2g} of the largest value"
            raise CheckFailed(reason, "nothing was written; please report the model's construct")

    def run(
        self, pool: Array, targets: Array, finish: Callable[[Array], Array], minutes: float, bar: Bar,
        resume: Path | None = None, key: str = "",
    ) -> State:  # fmt: skip
        """Fit to the targets for so many minutes, those of an earlier run that `resume` holds under the key included.

        Args:
            pool: Exposures as bytes, (images, views, h, w, C).
            targets: Logits of each image, (images, classes).
            finish: Brings one exposure to the model's units and layout.
            minutes: On the wall's clock.
            bar: Shows the share of the time.
            resume: Where the state is kept.
            key: What the request is known again by.
        """
        optimiser = torch.optim.Adam(self.graph.parameters.values(), RATE, betas=MOMENTA)
        state, wanted = State(), self._tensor(targets)
        if resume is not None and resume.is_file():
            state = self._read(resume, key, optimiser)
        began = time.monotonic() - state.spent
        saved = state.spent
        bar(0, total=max(1, math.ceil(60 * minutes)))
        bar(int(state.spent))
        while (share := state.spent / (60 * minutes)) < 1:
            images, views = self._drawn(state.step, *pool.shape[:2])
            batch = self._tensor(np.stack([finish(pool[i, k]) for i, k in zip(images, views, strict=True)]))
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, (state.step + 1) / WARM) * (1 + math.cos(math.pi * share)) / 2
            says = functional.log_softmax(self._scores(self._run(batch)), 1)
            aim = functional.log_softmax(wanted[images], 1)
            loss = functional.kl_div(says, aim, reduction="batchmean", log_target=True)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            state.step += 1
            state.losses.append(float(loss.detach()))
            kept = min(AVERAGE, state.step / (state.step + 9))
            with torch.no_grad():
                for name, weight in self.graph.parameters.items():
                    self._average[name].lerp_(weight, 1 - kept)
            now = time.monotonic() - began
            bar(int(now) - int(state.spent))
            state.spent = now
            if resume is not None and now - saved >= SAVED:
                self._write(resume, key, optimiser, state)
                saved = now
        if resume is not None:
            self._write(resume, key, optimiser, state)
        return state

    def written(self) -> onnx.ModelProto:
        """The model with the weights' average."""
        return self.graph.written(self._average)

    def _drawn(self, step: int, images: int, views: int) -> tuple[Array, Array]:
        """The exposures of a step, (BATCH,) images and (BATCH,) views: every image once before any comes again."""
        places = np.arange(step * BATCH, (step + 1) * BATCH)
        rounds, within = places // images, places % images
        orders = {one: np.random.default_rng([self._seed, one]) for one in np.unique(rounds).tolist()}
        drawn = {one: (rng.permutation(images), rng.integers(0, views, images)) for one, rng in orders.items()}
        pairs = [(drawn[one][0][k], drawn[one][1][k]) for one, k in zip(rounds.tolist(), within.tolist(), strict=True)]
        chosen = np.array(pairs)
        return chosen[:, 0], chosen[:, 1]

    def _run(self, batch: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
        """The first output for a batch, one by one where the graph's batch is 1."""
        if not self._alone:
            return self.graph(batch, weights)
        return torch.cat([self.graph(one[None], weights) for one in batch])

    def _scores(self, outputs: torch.Tensor) -> torch.Tensor:
        rows = outputs.flatten(1)
        return rows.clamp_min(LEAST).log() if self._probabilities else rows

    def _tensor(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._device)

    def _write(self, path: Path, key: str, optimiser: torch.optim.Optimizer, state: State) -> None:
        import io

        held = io.BytesIO()
        now = {"parameters": dict(self.graph.parameters), "average": self._average, "optimiser": optimiser.state_dict()}
        torch.save({"key": key, "state": vars(state), **now}, held)
        write_bytes(path, [held.getvalue()])

    def _read(self, path: Path, key: str, optimiser: torch.optim.Optimizer) -> State:
        """What an earlier run of the same request left; a fresh state where the file is of another request."""
        try:
            found = torch.load(path, map_location=self._device, weights_only=True)
        except Exception as error:  # pickle, zip and torch each have their own
            raise UsageError(f"{path}: it cannot be resumed ({error})", "remove it") from None
        if not isinstance(found, dict) or found.get("key") != key:
            return State()
        with torch.no_grad():
            for name, weight in self.graph.parameters.items():
                weight.copy_(found["parameters"][name])
                self._average[name].copy_(found["average"][name])
        optimiser.load_state_dict(found["optimiser"])
        return State(**found["state"])
