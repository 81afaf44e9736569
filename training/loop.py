"""``python -m training fit``: the training loop. Everything a run needs to go on after a kill lies in its folder."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from runtime.console.progress import progress_bar
from runtime.errors import FaceMeshError
from runtime.storage.whole_files import whole_file
from training.checkpoints import read_checkpoint
from training.curve import draw_curve
from training.data.dataset import CropBatch, FaceCrops
from training.data.labels import FaceLabels
from training.networks import create_network
from training.schedule import Schedule
from training.uv.hand_points import HandPointLoss
from training.uv.targets import PositionMapLoss, PositionMapTargets

YAW_BINS_DEG = (0, 30, 60, 180)
STATISTICS_BATCHES = 100


def create_seeded(name: str, seed: int) -> nn.Module:
    """A network of `training.networks` whose initial weights depend on ``seed`` alone."""
    torch.manual_seed(seed)
    return create_network(name)


class Trainer:
    """Owns network, optimiser, averaged weights and the files of one run: ``last.pt``, ``best.pt``, ``log.csv``, ``curve.png``."""

    def __init__(
        self,
        network: nn.Module,
        targets: PositionMapTargets,
        loss: PositionMapLoss,
        labels: FaceLabels,
        schedule: Schedule,
        folder: Path,
        hand_points: HandPointLoss | None = None,
        hand_weight: float = 0.0,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, self.targets, self.loss = network.to(self.device), targets.to(self.device), loss.to(self.device)
        self.network.to(memory_format=torch.channels_last)
        if schedule.bfloat16:
            keep_narrow_layers_float32(self.network)
        self.labels, self.schedule, self.folder = labels, schedule, folder
        self.coefficients = torch.from_numpy(labels.coefficients.astype(np.float32)).to(self.device)
        self.hand_points = hand_points and hand_points.to(self.device)
        self.hand_weight = hand_weight
        if hand_points is not None:
            order = {name: place for place, name in enumerate(hand_points.sources)}
            self.source = torch.tensor([order[name] for name in labels.source.tolist()], device=self.device)
        self.optimiser = torch.optim.AdamW(self._parameter_groups(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        self.averaged = copy.deepcopy(self.network)
        self.steps = 0
        self.epoch, self.best = 0, math.inf
        folder.mkdir(parents=True, exist_ok=True)

    def fit(self, training: FaceCrops, validation: FaceCrops, workers: int) -> None:
        """Train until the schedule ends; validates, logs and saves after every epoch."""
        torch.manual_seed(training.seed + self.epoch)
        while self.epoch < self.schedule.epochs:
            training.epoch = self.epoch
            started = time.monotonic()
            train_loss = self._train_epoch(training, workers)
            self._measure_statistics(training)
            scores = self.validate(validation, workers)
            self.epoch += 1
            row = {
                "epoch": self.epoch,
                "samples": self.epoch * len(training) * training.batch_size,
                "learning_rate": self.schedule.rate(self.epoch),
                "train_loss": round(train_loss, 6),
                **{name: round(score, 4) for name, score in scores.items()},
                "seconds": round(time.monotonic() - started, 1),
            }
            self._log(row)
            if scores["balanced"] < self.best:
                self.best = scores["balanced"]
                self.save("best.pt")
            self.save("last.pt")
            draw_curve(self.folder / "log.csv", self.folder / "curve.png")
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def _train_epoch(self, crops: FaceCrops, workers: int) -> float:
        self.network.train()
        total = 0.0
        loader = DataLoader(crops, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
        for index, batch in enumerate(progress_bar(loader, len(crops), "batch")):
            for group in self.optimiser.param_groups:
                group["lr"] = group["rate_factor"] * self.schedule.rate(self.epoch + index / len(crops))
            loss = self._loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            self._average()
            total += loss.item()
            if not math.isfinite(total):
                where = f"epoch {self.epoch + 1}, batch {index + 1}"
                raise FaceMeshError(f"{self.folder}: the loss is not finite in {where}; go on from the last checkpoint with a lower --learning-rate")
        return total / max(1, len(crops))

    def _loss(self, batch: CropBatch) -> Tensor:
        """Return the loss of a batch: maps and landmarks against the labels, landmarks against visible points by hand."""
        maps = self._predict(self.network, batch)
        sizes = torch.from_numpy(batch.box_size_px).to(self.device)
        loss = self.loss(maps, *self._target(batch), sizes).mean()
        if self.hand_points is None:
            return loss
        hand68, poses = (torch.from_numpy(array).to(self.device) for array in (batch.hand68, batch.poses))
        rows = torch.from_numpy(batch.rows).to(self.device)
        return loss + self.hand_weight * self.hand_points(self.loss.landmarks(maps), hand68, poses, self.source[rows], sizes)

    @torch.no_grad()
    def validate(self, crops: FaceCrops, workers: int) -> dict[str, float]:
        """NME in % of the 68 landmarks (2D) on the averaged weights: mean, by yaw bin, mean of the bins, and by source."""
        network = self.averaged.eval()
        errors, rows = [], []
        for batch in DataLoader(crops, batch_size=None, num_workers=workers):
            landmarks = self.loss.landmarks(self._predict(network, batch))
            _, wanted = self._target(batch)
            distance = (landmarks - wanted)[..., :2].norm(dim=2).mean(1).cpu().numpy()
            errors.append(100 * distance / batch.box_size_px)
            rows.append(batch.rows)
        return nme_table(np.concatenate(errors), self.labels, np.concatenate(rows))

    def _parameter_groups(self) -> list[dict]:
        """Parameters by the factor of their learning rate (``rate_factors`` of the network, by first part of the name)."""
        factors = getattr(self.network, "rate_factors", {})
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            groups.setdefault(factors.get(name.split(".")[0], 1.0), []).append(parameter)
        if self.hand_points is not None:
            groups.setdefault(1.0, []).append(self.hand_points.offsets)
        return [{"params": parameters, "rate_factor": factor} for factor, parameters in groups.items()]

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of weights and normalisation statistics, short at first."""
        self.steps += 1
        keep = min(self.schedule.average_decay, self.steps / (self.steps + 9))
        for mean, new in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - keep)
            else:
                mean.copy_(new)

    def _measure_statistics(self, crops: FaceCrops) -> None:
        """Give the averaged weights normalisation statistics of their own, as in stochastic weight averaging (Izmailov et al., UAI 2018, 3.2).

        Those of the training weights lag behind: PRNet's normalisation moves them by a thousandth per step.
        """
        with self._autocast():
            update_bn((self._images(crops[index]) for index in range(min(STATISTICS_BATCHES, len(crops)))), self.averaged)

    def _predict(self, network: nn.Module, batch: CropBatch) -> Tensor:
        """Position maps in crop px, float32."""
        with self._autocast():
            maps = network(self._images(batch))
        return maps.float() * self.network.output_scale

    def _images(self, batch: CropBatch) -> Tensor:
        return image_tensor(self.network, torch.from_numpy(batch.images).to(self.device)).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.bfloat16)

    def _target(self, batch: CropBatch) -> tuple[Tensor, Tensor]:
        coefficients = self.coefficients[torch.from_numpy(batch.rows).to(self.device)]
        return self.targets(coefficients, torch.from_numpy(batch.poses).to(self.device), torch.from_numpy(batch.mirrored).to(self.device))

    def sample_maps(self, crops: FaceCrops, batches: int) -> Tensor:
        """(N, 3, M, M) target maps in units of the network's output, for `EdgeNet.fit_expansion`."""
        return torch.cat([self._target(crops[index])[0] for index in range(batches)]) / self.network.output_scale

    def start_at(self, path: Path, crops: FaceCrops) -> None:
        """Begin with the weights of a checkpoint of this command, of an exported ONNX file or of 3DDFA_V2.

        Normalisation that an export has folded away gets statistics of ``crops``. Raises `FaceMeshError`.
        """
        if path.suffix == ".onnx":
            from training.networks.folded import load_folded, renormalise

            load_folded(self.network, path)
            renormalise(self.network, (self._images(crops[index]) for index in range(min(STATISTICS_BATCHES, len(crops)))))
            self._start_afresh()
            return
        state = read_checkpoint(path)
        try:
            if "network" in state:
                self.network.load_state_dict(state["network"])
            elif "state_dict" in state and hasattr(self.network, "load_mb05"):
                self.network.load_mb05(state["state_dict"])
            else:
                raise FaceMeshError(f"{path}: has neither the weights of a run nor those of 3DDFA_V2's small network")
        except RuntimeError as error:
            raise FaceMeshError(f"{path}: weights of another network ({' '.join(str(error).split())[:200]}); choose --network to fit") from None

    def _start_afresh(self) -> None:
        """Make optimiser and averaged weights anew: the shapes of the network may have changed."""
        self.optimiser = torch.optim.AdamW(self._parameter_groups(), lr=self.schedule.learning_rate, weight_decay=self.schedule.weight_decay)
        self.averaged = copy.deepcopy(self.network)

    def save(self, name: str) -> None:
        """Write a checkpoint whole or not at all; ``network`` in it are the averaged weights."""
        state = {
            "network": self.averaged.state_dict(),
            "training": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "steps": self.steps,
            "best": self.best,
            "schedule": dataclasses.asdict(self.schedule),
            "offsets": None if self.hand_points is None else self.hand_points.offsets.detach(),
        }
        with whole_file(self.folder / name) as file:
            torch.save(state, file)

    def resume(self) -> bool:
        """Go on from ``last.pt`` if there is one."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = read_checkpoint(path)
        try:
            if hasattr(self.network, "adapt_to"):
                self.network.adapt_to(state["training"])
                self.averaged.adapt_to(state["training"])
                self._start_afresh()
            self.network.load_state_dict(state["training"])
            if self.hand_points is not None and state.get("offsets") is not None:
                self.hand_points.offsets.data.copy_(state["offsets"])
            self.averaged.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.epoch, self.steps, self.best = state["epoch"], state["steps"], state["best"]
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise FaceMeshError(f"{path}: belongs to another run ({reason}); give the options of that run or another --run folder") from None
        return True

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys())
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def image_tensor(network: nn.Module, image: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 BGR -> (B, 3, S, S) float32 in the network's colour order and value range."""
    low, high = network.value_range
    if network.colour_order == "RGB":
        image = image.flip(3)
    return image.permute(0, 3, 1, 2).float() * ((high - low) / 255) + low


def keep_narrow_layers_float32(network: nn.Module, channels: int = 16) -> None:
    """Take convolutions of fewer than ``channels`` input or output channels out of autocast.

    They gain nothing from bfloat16, and oneDNN's bfloat16 kernels for them have corrupted memory ("double free") on CPUs.
    """

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        module.float32_region = torch.autocast(inputs[0].device.type, enabled=False)
        module.float32_region.__enter__()
        return tuple(value.float() for value in inputs)

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.float32_region.__exit__(None, None, None)
        del module.float32_region

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and min(module.in_channels, module.out_channels) < channels:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)


def nme_table(errors_percent: NDArray[np.floating], labels: FaceLabels, rows: NDArray[np.int64]) -> dict[str, float]:
    """Means of per-face errors: all, yaw bins, the mean of the bins ("balanced") and by source."""
    yaw = np.abs(labels.yaw_deg[rows])
    table = {"mean": float(errors_percent.mean())}
    bins = []
    for low, high in zip(YAW_BINS_DEG[:-1], YAW_BINS_DEG[1:], strict=True):
        inside = (yaw >= low) & (yaw < high)
        bins.append(float(errors_percent[inside].mean()) if inside.any() else math.nan)
        table[f"yaw_{low}_{high}"] = bins[-1]
    table["balanced"] = float(np.nanmean(bins))
    for source in np.unique(labels.source):
        chosen = labels.source[rows] == source
        table[str(source)] = float(errors_percent[chosen].mean()) if chosen.any() else math.nan
    return table
