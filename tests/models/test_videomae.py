"""Our VideoMAE against transformers' own processor and pipeline, on a tiny random checkpoint that is saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import tiny, videos

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the paper extra is not installed")
pytestmark = pytest.mark.paper

SAME = 1e-5  # of logits, from the same pixels
TOLERANCE = 5e-3  # of logits between -3 and 3, from the same frames: resized pixels are the same to one grey level, by rounding


def clip(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [16, H, W, 3]: smooth pictures that move."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    fine = np.kron(coarse, np.ones((height // 6 + 1, width // 8 + 1, 1))).astype(np.uint8)
    return np.stack([np.roll(fine, 3 * i, axis=1)[:height, :width] for i in range(16)])


SETTINGS = {
    "as published": {},
    "another mean": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "a border": {"size": {"shortest_edge": 40}},
    "rounded up": {"size": {"shortest_edge": 33}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_logits_are_those_of_the_library_on_the_same_frames(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the library's processor needs it")
    from curation.models.videomae import VideoMAE

    folder = tiny.videomae(tmp_path, list("abcde"), **SETTINGS[name])
    ours = VideoMAE(folder, "cpu")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.VideoMAEForVideoClassification.from_pretrained(folder).eval()
    clips = [clip(120, 213), clip(90, 61, seed=1), clip(32, 32, seed=2)]
    together = ours.logits(clips)
    assert together.shape == (3, 5) and together.std(axis=0).max() > 20 * TOLERANCE
    for frames, logits in zip(clips, together, strict=True):
        pixels = processor(list(frames), return_tensors="pt")["pixel_values"]
        assert (pixels[0] - ours.prepare(frames)).abs().max() <= 1.01 / 255 / 0.224
        with torch.inference_mode():
            theirs = model(pixel_values=pixels).logits[0].numpy()
            from_ours = model(pixel_values=ours.prepare(frames)[None]).logits[0].numpy()
        assert np.abs(theirs - logits).max() < TOLERANCE
        assert np.abs(from_ours - logits).max() < SAME
        assert np.abs(ours.logits([frames])[0] - logits).max() < SAME


def test_probabilities_are_those_of_the_librarys_pipeline_on_a_file(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the library's processor needs it")
    import av

    from curation.models.videomae import VideoMAE, probabilities

    folder = tiny.videomae(tmp_path, list("abcde"))
    path = tmp_path / "clip.mp4"
    videos.write(list(clip(96, 160)), path)
    with av.open(str(path)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    model = transformers.VideoMAEForVideoClassification.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pipeline = transformers.pipeline("video-classification", model=model, image_processor=processor, device="cpu")
    theirs = {found["label"]: found["score"] for found in pipeline(str(path), top_k=5)}
    ours = VideoMAE(folder, "cpu")
    shares = probabilities(ours.logits([frames]))[0]
    assert dict(zip(ours.labels, shares, strict=True)) == pytest.approx(theirs, abs=TOLERANCE)
    assert max(theirs.values()) - min(theirs.values()) > 0.05


def test_another_interpolation_is_refused(tmp_path: Path) -> None:
    from curation.models.videomae import VideoMAE

    with pytest.raises(ValueError, match="resample 3"):
        VideoMAE(tiny.videomae(tmp_path, list("ab"), resample=3), "cpu")


def test_without_settings_the_papers_hold(tmp_path: Path) -> None:
    from curation.models.videomae import VideoMAE

    folder = tiny.videomae(tmp_path, list("ab"))
    asked = VideoMAE(folder, "cpu").prepare(clip(50, 70))
    (folder / "preprocessor_config.json").unlink()
    assert torch.equal(VideoMAE(folder, "cpu").prepare(clip(50, 70)), asked)


def test_half_precision_stays_close(tmp_path: Path) -> None:
    """What a GPU runs, fp16, and the coarser bf16."""
    from curation.models.videomae import VideoMAE, probabilities

    ours = VideoMAE(tiny.videomae(tmp_path, list("abcde")), "cpu")
    clips = [clip(64, 64, seed) for seed in range(4)]
    exact = probabilities(ours.logits(clips))
    for half, tolerance in ((torch.float16, 0.01), (torch.bfloat16, 0.05)):
        with torch.inference_mode(), torch.autocast("cpu", half):
            logits = ours.network(pixel_values=torch.stack([ours.prepare(c) for c in clips])).logits.float().numpy()
        assert 0 < np.abs(probabilities(logits) - exact).max() < tolerance
