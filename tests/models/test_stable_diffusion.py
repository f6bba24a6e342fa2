from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="the paper extra is not installed")
pytestmark = pytest.mark.paper

SIDE, STEPS = tiny.SIDE, 2


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("sd"))


@cache
def loaded(folder: Path, **knobs: Any) -> Any:
    from curation.models.stable_diffusion import StableDiffusion

    torch.set_num_threads(1)
    return StableDiffusion(folder, "cpu", **{"batch": 3, "side": SIDE, "steps": STEPS} | knobs)


def images(count: int = 4) -> list[np.ndarray]:
    """Of different sizes."""
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, (80 + 10 * i, 120, 3), np.uint8) for i in range(count)]


def hole(left: int = 16) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:48, left : left + 32] = True
    return mask


JOBS = (images(), [hole(8 * i) for i in range(4)], ["street", "a forest", "sky, sea", "kitchen"], [5, 6, 7, 8])


def test_an_image_does_not_depend_on_those_beside_it(folder: Path) -> None:
    together = loaded(folder)(*JOBS)
    backwards = loaded(folder)(*(values[::-1] for values in JOBS))[::-1]
    alone = [loaded(folder)(*([value] for value in job))[0] for job in zip(*JOBS, strict=True)]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert a.shape == (SIDE, SIDE, 3) and a.dtype == np.uint8 and a.std() > 1
        assert (a == b).all() and (a == c).all()


@pytest.mark.parametrize("what", [1, 2, 3], ids=["hole", "prompt", "seed"])
def test_hole_prompt_and_seed_count(folder: Path, what: int) -> None:
    job = [[values[0]] for values in JOBS]
    other = [[values[1 if i == what else 0]] for i, values in enumerate(JOBS)]
    assert (loaded(folder)(*job)[0] != loaded(folder)(*other)[0]).mean() > 0.3


def test_parity_with_diffusers_own_call(folder: Path) -> None:
    """One image through the library's front door, as PIL images: at most one grey level apart."""
    from diffusers import StableDiffusionInpaintPipeline
    from PIL import Image

    from curation.models.stable_diffusion import NEGATIVE

    square = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    theirs = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)(
        **{
            "prompt": "street",
            "negative_prompt": NEGATIVE,
            "image": Image.fromarray(square),
            "mask_image": Image.fromarray(hole()),
        },
        **{"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": 12.0},
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    ours = loaded(folder)([square], [hole()], ["street"], [5])[0]
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1


def test_half_precision_files_load(folder: Path, tmp_path: Path) -> None:
    """The store has only the fp16 variant; a CPU computes with it in float32."""
    half = tiny.stable_diffusion(tmp_path, half=True)
    assert not (half / "unet/diffusion_pytorch_model.safetensors").exists()
    assert (half / "unet/diffusion_pytorch_model.fp16.safetensors").stat().st_size < 0.6 * (
        folder / "unet/diffusion_pytorch_model.safetensors"
    ).stat().st_size
    same = [values[:1] for values in JOBS]
    difference = loaded(half)(*same)[0].astype(int) - loaded(folder)(*same)[0]
    assert np.abs(difference).mean() < 2


def test_two_threads_paint_what_one_paints(folder: Path) -> None:
    from diffusers import PNDMScheduler

    paint = loaded(folder, guidance=3.0)
    paint._pipeline.scheduler = PNDMScheduler.from_config(paint._pipeline.scheduler.config, skip_prk_steps=True)  # it has a state
    jobs = [([image], [hole()], [f"a field {i}"], [i]) for i, image in enumerate(images(6))]
    alone = [paint(*job) for job in jobs]
    paint._pipeline.unet.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    with ThreadPoolExecutor(2) as pool:
        for ours, theirs in zip(pool.map(lambda job: paint(*job), jobs), alone, strict=True):
            assert np.array_equal(ours, theirs)
