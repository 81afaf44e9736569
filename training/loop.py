"""``python -m training fit``: the training loop. Everything a run needs to go on after a kill lies in its folder."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from runtime.console.progress import progress_bar
from runtime.console.stop_signals import StopSignals
from runtime.errors import FaceMeshError, one_line
from runtime.geometry.nme import point_nme
from runtime.storage.whole_files import whole_file
from training.averaging import averaged_model
from training.checkpoints import read_checkpoint
from training.curve import draw_curve
from training.data.dataset import CropBatch, FaceCrops
from training.data.labels import FaceLabels
from training.networks.inputs import keep_narrow_layers_float32
from training.schedule import Schedule
from training.validation import append_row, nme_table

STATISTICS_BATCHES = 100
FIRST_REPORT_SECONDS, REPORT_SECONDS = 10, 60  # to the first line of progress, and between the others


Run = Callable[[Tensor], Tensor]  # a network in the precision of the run: input -> output, float32


class Objective(Protocol):
    """The task that a network is trained for, a `torch.nn.Module`; parameters of its own are learned beside."""

    def images(self, batch: CropBatch) -> Tensor:
        """Return the network's input, (B, C, S, S) float32."""

    def loss(self, run: Run, batch: CropBatch, epoch: int) -> Tensor:
        """Return a scalar."""

    def landmarks(self, run: Run, batch: CropBatch) -> tuple[Tensor, Tensor]:
        """Return the 68 landmarks (B, 68, 3) that the network predicts, and the labels', crop px."""

    def hand_errors(self, landmarks: Tensor, batch: CropBatch) -> Tensor:
        """Return the distance to points by hand in box units, (B,), NaN without points."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups of an optimiser for its own parameters; ``rate_factor`` is of the run's learning rate."""

    def record(self) -> dict[str, Any]:
        """Return what checkpoints hold of the task beside the weights."""


class Trainer:
    """Network, optimiser, averaged weights and the files of one run.

    The files are ``last.pt``, ``best.pt``, ``log.csv`` and ``curve.png`` in the folder of the run.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        labels: FaceLabels,
        schedule: Schedule,
        folder: Path,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.objective = objective.to(self.device)
        if schedule.bfloat16:
            keep_narrow_layers_float32(self.network)
        self.labels = labels
        self.schedule = schedule
        self.folder = folder
        self.optimiser = torch.optim.AdamW(
            self._parameter_groups(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.averaged = averaged_model(self.network, schedule.average_decay)
        self.epoch = 0
        self.batch = 0  # of the epoch under way
        self.total_loss = 0.0  # of its batches
        self.best = math.inf
        folder.mkdir(parents=True, exist_ok=True)

    def fit(self, training: FaceCrops, validation: FaceCrops, workers: int) -> None:
        """Train until the schedule ends; validate, log and save after every epoch."""
        torch.manual_seed(training.seed + self.epoch)
        while self.epoch < self.schedule.epochs:
            # Learn, and measure the averaged weights
            training.epoch = self.epoch
            started = time.monotonic()
            train_loss = self._train_epoch(training, workers)
            self._measure_statistics(training)
            scores = self.validate(validation, workers)
            self.epoch += 1
            self.batch = 0
            self.total_loss = 0.0
            # Record, and keep the weights
            row = {
                "epoch": self.epoch,
                "samples": self.epoch * len(training) * training.batch_size,
                "learning_rate": self.schedule.rate(self.epoch),
                "train_loss": round(train_loss, 6),
                **{name: round(score, 4) for name, score in scores.items()},
                "seconds": round(time.monotonic() - started, 1),
            }
            append_row(self.folder / "log.csv", row)
            if scores["balanced"] < self.best:
                self.best = scores["balanced"]
                self.save("best.pt", whole=False)
            self.save("last.pt")
            draw_curve(self.folder / "log.csv", self.folder / "curve.png")
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def _train_epoch(self, crops: FaceCrops, workers: int) -> float:
        self.network.train()
        first = self.batch
        loader = DataLoader(
            crops,
            batch_size=None,
            sampler=range(first, len(crops)),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
        asked = threading.Event()
        with StopSignals(asked.set) as signals:
            try:
                self._take_steps(progress_bar(loader, len(crops) - first, "batch"), len(crops), asked)
            except RuntimeError:  # of a process that makes crops and was stopped, too
                if not asked.is_set():
                    raise
            if asked.is_set():
                self.save("last.pt")
                place = f"epoch {self.epoch + 1} after batch {self.batch} of {len(crops)}"
                print(f"{self.folder}: stopped in {place}; the same command goes on from there", flush=True)
            signals.raise_received()
        return self.total_loss / max(1, len(crops))

    def _take_steps(self, batches: Iterable[CropBatch], count: int, asked: threading.Event) -> None:
        """Learn from batches until they end or ``asked`` is set; save and tell of progress now and then."""
        reported = saved = time.monotonic()
        seconds = FIRST_REPORT_SECONDS
        for batch in batches:
            self._step(batch, count)
            if asked.is_set():
                return
            now = time.monotonic()
            if now - saved > 60 * self.schedule.checkpoint_minutes:
                self.save("last.pt")
                saved = now
            if now - reported > seconds:
                mean = self.total_loss / self.batch
                print(f"epoch {self.epoch + 1}, batch {self.batch} of {count}: loss {mean:.5f}", flush=True)
                reported, seconds = now, REPORT_SECONDS

    def _step(self, batch: CropBatch, batches: int) -> None:
        """Learn from one batch. Raises `FaceMeshError` if the loss is not finite."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate_factor"] * self.schedule.rate(self.epoch + self.batch / batches)
        loss = self.objective.loss(partial(self._run, self.network), batch, self.epoch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.averaged.update_parameters(self.network)
        self.batch += 1
        self.total_loss += loss.item()
        if not math.isfinite(self.total_loss):
            place = f"epoch {self.epoch + 1}, batch {self.batch}"
            raise FaceMeshError(
                f"{self.folder}: the loss is not finite in {place}; "
                "go on from the last checkpoint with a lower --learning-rate"
            )

    @torch.no_grad()
    def validate(self, crops: FaceCrops, workers: int) -> dict[str, float]:
        """Return the NME in % of the 68 landmarks (2D) with the averaged weights, as `nme_table` does.

        If faces have visible points by hand, ``hand`` is the mean distance to them (inner points, offsets of the source
        taken off).
        """
        network = self.averaged.module.eval()
        errors, hand_errors, rows = [], [], []
        for batch in DataLoader(crops, batch_size=None, num_workers=workers):
            landmarks, truth = self.objective.landmarks(partial(self._run, network), batch)
            pair = (points.cpu().numpy()[..., :2] for points in (landmarks, truth))
            errors.append(point_nme(*pair, batch.box_size_px))
            hand_errors.append(100 * self.objective.hand_errors(landmarks, batch).cpu().numpy())
            rows.append(batch.rows)
        table = nme_table(np.concatenate(errors), self.labels, np.concatenate(rows))
        by_hand = nme_table(np.concatenate(hand_errors), self.labels, np.concatenate(rows))
        return table | {"hand": by_hand["mean"], "hand_balanced": by_hand["balanced"]}

    def _parameter_groups(self) -> list[dict]:
        """Return parameters by the factor of their rate: ``rate_factors`` of the network, by first part of the name."""
        factors = getattr(self.network, "rate_factors", {})
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            groups.setdefault(factors.get(name.split(".")[0], 1.0), []).append(parameter)
        listed = [{"params": parameters, "rate_factor": factor} for factor, parameters in groups.items()]
        return [*listed, *self.objective.parameter_groups()]

    def _measure_statistics(self, crops: FaceCrops) -> None:
        """Give the averaged weights normalisation statistics of their own.

        Stochastic weight averaging does so too (Izmailov et al., UAI 2018, 3.2). Those of the training weights
        lag behind: PRNet's normalisation moves them by a thousandth per step.
        """
        with self._autocast():
            batches = range(min(STATISTICS_BATCHES, len(crops)))
            images = (self.objective.images(crops[index]) for index in batches)
            update_bn((batch.contiguous(memory_format=torch.channels_last) for batch in images), self.averaged.module)

    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        with self._autocast():
            return network(images.contiguous(memory_format=torch.channels_last)).float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.bfloat16)

    def save(self, name: str, whole: bool = True) -> None:
        """Write a checkpoint whole or not at all; ``network`` in it are the averaged weights.

        A run goes on from a ``whole`` one, four times as large.
        """
        state = {"network": self.averaged.module.state_dict(), "epoch": self.epoch, "best": self.best}
        state |= self.objective.record()
        if whole:
            state |= {
                "training": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "loss": {name: value.detach() for name, value in self.objective.named_parameters()},
                "steps": int(self.averaged.n_averaged),
                **{field: getattr(self, field) for field in ("batch", "total_loss")},
                "schedule": dataclasses.asdict(self.schedule),
            }
        with whole_file(self.folder / name) as file:
            torch.save(state, file)

    def resume(self) -> bool:
        """Go on from ``last.pt``; return False if there is none. Raises `FaceMeshError` if it is of another run."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = read_checkpoint(path)
        try:
            self.network.load_state_dict(state["training"])
            self.averaged.module.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.averaged.n_averaged.fill_(state["steps"])
            for name, value in self.objective.named_parameters():
                value.data.copy_(state["loss"][name])
            for field in ("epoch", "batch", "total_loss", "best"):
                setattr(self, field, state[field])
        except (KeyError, ValueError, RuntimeError) as error:
            reason = one_line(error, 200)
            raise FaceMeshError(
                f"{path}: belongs to another run ({reason}); give the options of that run or another --run folder"
            ) from None
        return True
