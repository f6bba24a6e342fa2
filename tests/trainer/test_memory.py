"""The arithmetic of memory, held to what a small model really holds; that of shards is in `test_parallel`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from curation.trainer.distributed import Parallel
from curation.trainer.memory import memory
from curation.trainer.model import Architecture, DiT
from tests.trainer import tiny_model

pytestmark = pytest.mark.trainer
CLIPS, SHAPE = 2, (3, 4, 16, 24)


class Held(TorchDispatchMode):
    """Counts the bytes of what operations have made, not views of a model's weights, and something still holds."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.weights = {p.untyped_storage()._cdata for p in model.parameters()}
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.weights:
                    self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return out

    def bytes(self) -> int:
        return sum(size for storage, size in self.made.values() if not storage.expired())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
def test_activations_are_those_that_wait_for_the_backward_pass(checkpointing, half):
    """Of four blocks: the difference that they make."""
    found, said = [], []
    for blocks in (1, 5):
        size = tiny_model.size(width=64, blocks=blocks, checkpointing=checkpointing)
        model = DiT(size)
        given = tiny_model.inputs() | {name: torch.randn(CLIPS, *SHAPE) for name in ("z", "self_cond")}
        with Held(model) as held, torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = model(**given)
            found.append(held.bytes())
        assert out.shape == (CLIPS, *SHAPE)
        said.append(memory(size, Parallel(), 1, clips=CLIPS, tokens=model.tokens(SHAPE), text_tokens=6, half=half))
    more = [one.kept + one.gathered for one in said]  # alone, autocast's copies of the weights are what is gathered
    assert more[1] - more[0] == pytest.approx(found[1] - found[0], rel=0.03)
    assert said[1].weights == sum(4 * p.numel() for p in model.parameters()) and said[1].moments == 2 * said[1].weights


def test_the_papers_model_on_the_papers_gpus():
    """V2's largest bucket on 64 GPUs, four to a clip, fits into 80 GB beside 11 GB of encoders; on 16 it does not."""
    size = Architecture(size="paper", checkpointing="selective").size_with(
        channels=16, text_dim=4096, image_dim=1024, image_tokens=256
    )
    bucket: dict[str, Any] = {"clips": 1, "tokens": 71_424, "text_tokens": 256}
    found = memory(size, Parallel(context=4), 64, **bucket)
    assert found.weights == pytest.approx(16.465e9 * 4 / 64, rel=0.01) and found.total < 69e9
    assert memory(size, Parallel(), 16, **bucket).total > 80e9
    new = memory(size, Parallel(context=4), 64, **bucket, layers="personalization")
    assert new.weights == found.weights and new.moments == pytest.approx(2.988e9 * 8 / 64, rel=0.02)
