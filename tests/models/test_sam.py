from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.paper
pytest.importorskip("segment_anything", reason="needs the paper extra")

import torch  # noqa: E402

from curation.models import sam  # noqa: E402
from tests import tiny  # noqa: E402

BOXES = [(10.0, 10.0, 80.0, 90.0), (0.0, 30.5, 159.0, 119.0), (100.0, 5.0, 130.0, 40.0)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def segmenter(path: Path) -> sam.SegmentAnything:
    return sam.SegmentAnything(path)


def picture(seed: int = 0, height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_released_sizes_are_read_off_the_weights() -> None:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        released = sam_model_registry["vit_b"]().state_dict()
        ours = sam.build(released)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in released.items()}
    first, last = ours.image_encoder.blocks[0], ours.image_encoder.blocks[11]
    assert (first.window_size, last.window_size, first.attn.num_heads, ours.image_encoder.img_size) == (14, 0, 12, 1024)


def test_masks_are_those_of_the_packages_own_predictor(path: Path, segmenter: sam.SegmentAnything) -> None:
    from segment_anything import SamPredictor

    predictor = SamPredictor(segmenter.sam)
    for frame in (picture(0), picture(1, 150, 90)):
        predictor.set_image(frame)
        boxes = [(x0 / 2, y0 / 2, x1 / 2, y1 / 2) for x0, y0, x1, y1 in BOXES]
        (view,) = segmenter.look([frame])
        masks, scores = segmenter.masks(view, boxes)
        for box, mask, score in zip(boxes, masks, scores, strict=True):
            theirs, iou, _ = predictor.predict(box=np.array(box), multimask_output=False)
            assert mask.dtype == bool and mask.shape == frame.shape[:2]
            assert np.mean(mask != theirs[0]) < 1e-3 and score == pytest.approx(iou[0], abs=1e-5)


def test_masks_are_those_of_transformers(path: Path, segmenter: sam.SegmentAnything) -> None:
    """The same weights in transformers: predicted IoU within 1e-4, at most 1 pixel in 1,000 on the other side of the outline."""
    from transformers import SamImageProcessorPil, SamProcessor

    theirs = converted(path)
    small = {"mask_size": {"longest_edge": 32}, "mask_pad_size": {"height": 32, "width": 32}}
    processor = SamProcessor(SamImageProcessorPil(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}, **small))
    frame = picture()
    inputs = processor(frame, input_boxes=[[list(box) for box in BOXES]], return_tensors="pt")
    with torch.inference_mode():
        out = theirs(**inputs, multimask_output=False)
    expected = processor.post_process_masks(
        out.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"], pad_size={"height": 128, "width": 128}
    )[0][:, 0].numpy()
    masks, scores = segmenter.masks(segmenter.look([frame])[0], BOXES)
    np.testing.assert_allclose(scores, out.iou_scores[0, :, 0], atol=1e-4)
    assert 0.02 < expected.mean() < 0.98, "masks that are neither empty nor full"
    assert np.mean(masks != expected) < 1e-3


def test_frames_are_embedded_together_as_alone(segmenter: sam.SegmentAnything) -> None:
    frames = [picture(0), picture(1, 150, 90), picture(2)]
    for view, frame in zip(segmenter.look(frames), frames, strict=True):
        (alone,) = segmenter.look([frame])
        assert view.inner == alone.inner and view.size == frame.shape[:2]
        torch.testing.assert_close(view.embedding, alone.embedding, atol=1e-4, rtol=1e-4)


def test_bf16_gives_nearly_the_same_masks(path: Path, segmenter: sam.SegmentAnything) -> None:
    half = sam.SegmentAnything(path, precision="bf16")
    (ours,), (exact,) = half.look([picture()]), segmenter.look([picture()])
    assert ours.embedding.dtype == torch.float32 and not torch.equal(ours.embedding, exact.embedding)
    (masks, scores), (sure, known) = half.masks(ours, BOXES), segmenter.masks(exact, BOXES)
    assert ((masks & sure).sum((1, 2)) / (masks | sure).sum((1, 2))).min() > 0.98
    assert scores == pytest.approx(known, abs=1e-3)


def test_a_feature_tells_what_is_in_the_mask_from_the_rest(segmenter: sam.SegmentAnything) -> None:
    rng = np.random.default_rng(3)
    things = [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(2)]
    frames, masks = [], []
    for thing, left in ((things[0], 16), (things[0], 80), (things[1], 80)):
        frame = np.full((128, 128, 3), 90, np.uint8)
        mask = np.zeros((128, 128), bool)
        mask[48:88, left : left + 40] = True
        frame[mask] = thing.reshape(-1, 3)
        frames.append(frame), masks.append(mask)
    views = segmenter.look(frames)
    one, again, other = (segmenter.feature(view, mask) for view, mask in zip(views, masks, strict=True))
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ again > one @ other


def test_a_feature_of_nothing_or_everything_is_zero(segmenter: sam.SegmentAnything) -> None:
    (view,) = segmenter.look([picture()])
    for mask in (np.zeros((120, 160), bool), np.ones((120, 160), bool)):
        assert not segmenter.feature(view, mask).any()


RENAMED = {
    "image_encoder": "vision_encoder",
    "patch_embed.proj": "patch_embed.projection",
    "blocks": "layers",
    "neck.0": "neck.conv1",
    "neck.1": "neck.layer_norm1",
    "neck.2": "neck.conv2",
    "neck.3": "neck.layer_norm2",
    "mask_downscaling.0": "mask_embed.conv1",
    "mask_downscaling.1": "mask_embed.layer_norm1",
    "mask_downscaling.3": "mask_embed.conv2",
    "mask_downscaling.4": "mask_embed.layer_norm2",
    "mask_downscaling.6": "mask_embed.conv3",
    "point_embeddings": "point_embed",
    "pe_layer.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
    "output_upscaling.0": "upscale_conv1",
    "output_upscaling.1": "upscale_layer_norm",
    "output_upscaling.3": "upscale_conv2",
    "norm_final_attn": "layer_norm_final_attn",
    ".norm": ".layer_norm",
}
HEADS = {".layers.0.": ".proj_in.", ".layers.1.": ".layers.0.", ".layers.2.": ".proj_out."}


def converted(path: Path) -> Any:
    """transformers' network with the weights of ours."""
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=128,
        patch_size=16,
        window_size=4,
        global_attn_indexes=[1],
        mlp_dim=64,
        num_pos_feats=16,
    )
    prompt = SamPromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_hidden_layers=2, num_attention_heads=8, iou_head_hidden_dim=32, iou_head_depth=3
    )
    model = SamModel(
        SamConfig(vision_config=vision.to_dict(), prompt_encoder_config=prompt.to_dict(), mask_decoder_config=decoder.to_dict())
    )
    weights = {}
    for name, value in torch.load(path, weights_only=True).items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        if "iou_prediction_head" in name or "hypernetworks" in name:
            old = next(old for old in HEADS if old in name)
            name = name.replace(old, HEADS[old])
        weights[name] = value
    weights["shared_image_embedding.positional_embedding"] = weights["prompt_encoder.shared_embedding.positional_embedding"]
    result = model.load_state_dict(weights, strict=False)
    assert result.missing_keys == [] and [k for k in result.unexpected_keys if "pixel_" not in k] == []
    return model.eval()
