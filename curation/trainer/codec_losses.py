"""What a codec in training minimises, and its adversary: the weighted losses of a recipe. The papers state the KL alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.models.magvit import Posterior
from curation.models.patch_gan import PatchGan, deceiving, judging
from curation.models.perceptual import Perceptual
from curation.store import store
from curation.trainer.codec_config import Losses

EYES = "efficientnet-lite2"
"""The perceptual loss's network in the store."""


class Objective:
    """The losses of clips; each is the mean over them."""

    def __init__(self, losses: Losses, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]):
        """`autocast`: of the adversary. Draws its weights from the global generator."""
        self.losses, self.autocast = losses, autocast
        self.adversary = PatchGan().to(device) if losses.gan else None
        self.eyes = Perceptual(store.path(EYES), device) if losses.perceptual else None

    def has_adversary(self, step: int) -> bool:
        return self.adversary is not None and step >= self.losses.gan_from

    def terms(self, made: Tensor, video: Tensor, posterior: Posterior, step: int) -> dict[str, Tensor]:
        """The autoencoder's: each of them, and as "loss" their weighted sum. `made` and `video`: float32 [B,3,F,H,W]."""
        terms = {"l1": F.l1_loss(made, video), "l2": F.mse_loss(made, video), "kl": posterior.kl().mean()}
        if self.eyes:
            terms["perceptual"] = self.eyes(made, video)
        if self.adversary and self.has_adversary(step):
            self.adversary.requires_grad_(False)
            with self.autocast():
                terms["gan"] = deceiving(self.losses.gan_loss, self.adversary(made).float())
            self.adversary.requires_grad_(True)
        weighted = [getattr(self.losses, name) * term for name, term in terms.items()]
        return {"loss": torch.stack(weighted).sum(), **terms}

    def judged(self, made: Tensor, video: Tensor) -> dict[str, Tensor]:
        """The adversary's: "judge", with the penalty in it, the penalty, and the mean logits. `made` has no gradient."""
        assert self.adversary
        with self.autocast():
            real, fake = self.adversary(video).float(), self.adversary(made).float()
        found = {"judge": judging(self.losses.gan_loss, real, fake), "real": real.mean(), "fake": fake.mean()}
        if self.losses.penalty != "none":
            penalty = self.adversary.r1(video) if self.losses.penalty == "r1" else self.adversary.lecam(real, fake)
            found |= {"penalty": penalty, "judge": found["judge"] + self.losses.penalty_weight * penalty}
        return found
