"""Fine-tune a VideoMAE to the five classes, the papers' way (PAPER.md §1.2); examples are made while it trains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from curation.console import counting
from curation.faults import one_line
from curation.inputs.files import InputError
from curation.machine import cpus
from curation.models.quality import Rule
from curation.models.videomae import VideoMAE, probabilities
from curation.quality import head, report
from curation.quality.measured import AS_IT_IS, MADE, UNSEEN, is_raw, looked_through, pictures
from curation.quality.sources import Shot
from curation.stages.score_quality import CLASSES, DESIRABLE
from curation.store.weights import weights_digest

BATCH, RATE, DECAY, EPOCHS, PATIENCE = 8, 5e-5, 0.05, 20, 4
"""Of AdamW; epochs at most, and without a better loss of the held-out part. None is stated by the paper."""
SETTINGS = "preprocessor_config.json"
Job = tuple[Shot, int, str, int]
"""A shot, and of the example made of it the kind, the label and the number."""


def finetune(shown: Sequence[Shot], part: dict[str, int], output: Path, init: Path) -> dict[str, Any]:
    """Write `OUTPUT/model/` and give figures. Videos of the last part are tested on, those of the one before end the training,
    the others are trained on; with two parts the last does both. After each epoch all that is needed to go on is kept.

    Raises `InputError` when `init` is no VideoMAE, or not the one that training began with.
    """
    trainer = _Trainer(init, output / "epochs.pt")
    last = max(part.values())
    held = {last - 1} if last > 1 else {last}
    raw = {p: [s for s in shown if is_raw(s) and part[s.video] == p] for p in range(last + 1)}
    examples = partial(Examples, raw=raw, part=part)
    mine = [s for s in shown if part[s.video] not in held | {last}]
    stop = _jobs([s for s in shown if part[s.video] in held], MADE, 0)
    test = _jobs([s for s in shown if part[s.video] == last], UNSEEN, 0)
    while trainer.goes_on:
        epoch = len(trainer.losses)
        trainer.epoch(epoch, examples(_jobs(mine, MADE, epoch)), examples(stop))
    temperature = head.temperature(probabilities(trainer.logits(examples(stop))), _labels(stop))
    trainer.soften(temperature)
    found, label = probabilities(trainer.logits(examples(test))), _labels(test)
    rule = report.calibrated(found, label)
    trainer.save(output / "model", rule)
    as_they_are = np.array([kind == AS_IT_IS for _, kind, _, _ in test])
    figures = {
        "unseen_ways": report.report(found, label, rule),
        "as_they_are": report.report(found[as_they_are], label[as_they_are], rule),
    }
    says = {"filter": "videomae", "init": weights_digest(init), "epochs": trainer.losses, "temperature": temperature}
    return says | {"rule": {"min_desirable": rule.min_desirable, "rejects": list(rule.rejects)}} | figures


def _jobs(shown: Sequence[Shot], kind: int, number: int) -> list[Job]:
    """Each shot as it is, and of those that move like a video one example of each class."""
    own: list[Job] = [(shot, AS_IT_IS, shot.label or DESIRABLE, 0) for shot in shown]
    return own + [(shot, kind, label, number) for shot in shown if is_raw(shot) for label in CLASSES]


def _labels(jobs: Sequence[Job]) -> np.ndarray:
    return np.array([CLASSES.index(label) for _, _, label, _ in jobs])


class Examples(Dataset[tuple[np.ndarray, int]]):
    """uint8 RGB [16, H, W, 3] of each job and its class."""

    def __init__(self, jobs: Sequence[Job], raw: dict[int, list[Shot]], part: dict[str, int]):
        self.jobs, self._raw, self._part = jobs, raw, part

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
        shot, kind, label, number = self.jobs[at]
        clip = pictures(shot, self._raw[self._part[shot.video]], kind, label, number)
        return np.stack(looked_through(clip)), CLASSES.index(label)


class _Trainer:
    """`losses`: of each epoch on what was held out."""

    def __init__(self, init: Path, kept: Path):
        self._init, self._kept = init, kept
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)  # of a head that is made anew
        try:
            self._model = VideoMAE(init, self._device, classes=CLASSES)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--init {init}: no VideoMAE can be loaded from it: {one_line(error)}") from error
        self._network = self._model.network
        self._optimiser = torch.optim.AdamW(self._network.parameters(), lr=RATE, weight_decay=DECAY)
        self.losses: list[float] = []
        self._best = self._state()
        if kept.exists():
            self._go_on()

    @property
    def goes_on(self) -> bool:
        """Whether there is another epoch: none when nothing got better for `PATIENCE` of them."""
        since = len(self.losses) - 1 - int(np.argmin(self.losses)) if self.losses else 0
        return since < PATIENCE and len(self.losses) < EPOCHS

    def epoch(self, number: int, train: Examples, held: Examples) -> None:
        torch.manual_seed(number)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(number)).tolist()
        weights = torch.tensor(head.class_weights(_labels(train.jobs)), dtype=torch.float32, device=self._device)
        steps = -(-len(train) // BATCH)
        self._network.train()
        with counting(f"epoch {number + 1}", len(train)) as progress:
            for step, rows in enumerate(self._loader(train, order)):
                clips, labels = self._batch(rows)
                for group in self._optimiser.param_groups:
                    group["lr"] = RATE * min(1.0, (number * steps + step + 1) / steps)
                with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
                    logits = self._network(pixel_values=clips).logits
                loss = F.cross_entropy(logits.float(), labels, weight=weights)
                self._optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
                self._optimiser.step()
                progress.add(len(labels))
        logits, label = torch.from_numpy(self.logits(held, best=False)), torch.from_numpy(_labels(held.jobs))
        self.losses.append(
            float(
                F.cross_entropy(logits, label, weight=torch.tensor(head.class_weights(_labels(held.jobs)), dtype=torch.float32))
            )
        )
        if self.losses[-1] == min(self.losses):
            self._best = self._state()
        self._keep()

    def logits(self, examples: Examples, best: bool = True) -> np.ndarray:
        if best:
            self._network.load_state_dict(self._best)
        self._network.eval()
        with torch.inference_mode():
            batches = map(self._batch, self._loader(examples, range(len(examples))))
            found = [self._network(pixel_values=clips).logits.float().cpu() for clips, _ in batches]
        return torch.cat(found).numpy()

    def soften(self, temperature: float) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            self._best[name] = self._best[name] / temperature

    def save(self, folder: Path, rule: Rule) -> None:
        self._network.load_state_dict(self._best)
        self._network.config.curation_rule = {"min_desirable": rule.min_desirable, "rejects": list(rule.rejects)}
        self._network.save_pretrained(folder)
        if (self._init / SETTINGS).exists():
            shutil.copy(self._init / SETTINGS, folder / SETTINGS)

    def _loader(self, examples: Examples, order: Sequence[int]) -> Any:
        workers = max(1, cpus() - 1) if self._device == "cuda" else 0
        return DataLoader(
            examples,
            BATCH,
            sampler=list(order),
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context="spawn" if workers else None,
        )

    def _batch(self, rows: Sequence[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
        clips = torch.stack([self._model.prepare(clip) for clip, _ in rows])
        return clips, torch.tensor([label for _, label in rows], device=self._device)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()}

    def _keep(self) -> None:
        """Everything that decides the epochs to come."""
        state = {"network": self._state(), "best": self._best, "optimiser": self._optimiser.state_dict()}
        begun = self._kept.with_suffix(".partial")
        torch.save(state | {"losses": self.losses, "init": weights_digest(self._init)}, begun)
        begun.rename(self._kept)

    def _go_on(self) -> None:
        state = torch.load(self._kept, map_location="cpu", weights_only=True)
        if state["init"] != weights_digest(self._init):
            raise InputError(f"--init {self._init}: {self._kept} was begun with another checkpoint; take another --output")
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best, self.losses = state["best"], state["losses"]
