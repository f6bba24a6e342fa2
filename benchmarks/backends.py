"""What `gpu_stages.py` measures: one batch of work for every paper backend, at the papers' sizes or tiny. Weights are random."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny checkpoints are those of the tests
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

Work = Callable[[], Any]
WORDS = ["woman", "long brown hair", "green bottle"]


@dataclass(frozen=True)
class Setup:
    """Where checkpoints go, how large they are, where they run, and how many items are a batch."""

    folder: Path
    tiny: bool
    device: str
    batch: int

    @property
    def precision(self) -> str:
        """What `segment_entities` decides on for such a device."""
        return "bf16" if self.device == "cuda" else "fp32"


def say(name: str, figure: str, value: object, **more: object) -> None:
    print(json.dumps({"backend": name, "figure": figure, "value": value, **more}), flush=True)


def frames(count: int, height: int = 360, width: int = 640) -> list[np.ndarray]:
    """uint8 RGB: noise of 8 px blocks, as hard to compress as a busy picture."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return [np.kron(block, np.ones((8, 8, 1), np.uint8)) for block in blocks]


def transnetv2(setup: Setup) -> Work:
    network = _transnetv2(setup, "auto")
    windows = np.random.default_rng(0).integers(0, 256, (setup.batch, 100, 27, 48, 3), np.uint8)
    exact = _transnetv2(setup, "fp32")(windows)
    say("transnetv2", "half_against_fp32", round(float(np.abs(network(windows) - exact).max()), 5), aim="<= 0.01")
    return lambda: network(windows)


def _transnetv2(setup: Setup, precision: str) -> Any:
    import torch

    from curation.models import transnetv2
    from curation.store import store

    there = store.is_present("transnetv2")
    path = store.path("transnetv2") if there else setup.folder / "transnetv2.pth"
    if not path.exists():
        torch.save(transnetv2.TransNetV2().state_dict(), path)
    return transnetv2.Detector(path, precision, setup.device)


def split_shots(setup: Setup) -> Work:
    """The stage on whole files of 8 s: decoding, detection, and reading or encoding them."""
    from curation.sample import Sample
    from curation.stage import apply
    from curation.stages.split_shots import SplitShots
    from tests import videos

    path = setup.folder / "clip.mp4"
    pictures = frames(2 if setup.tiny else 8, *((120, 160) if setup.tiny else (360, 640)))
    videos.write([np.roll(picture, shift, 1) for picture in pictures for shift in range(30)], path)
    stage = SplitShots(on_boundary="split", min_seconds=0.0)
    stage._network = _transnetv2(setup, "auto")
    source = {"video": "v", "path": str(path), "start": None, "end": None, "caption": ""}
    # Its own offset makes of each clip a source of its own.
    return lambda: apply(stage, [Sample(str(i), meta={"source": {**source, "offset": i}}) for i in range(setup.batch)])


def score_quality(setup: Setup) -> Work:
    """The stage on clips with a window of 24 frames, 640×360."""
    from curation.media.members import to_jpeg
    from curation.sample import Sample
    from curation.stage import apply
    from curation.stages.score_quality import CLASSES, ScoreQuality

    stage = ScoreQuality(weights=str(_videomae(setup, list(CLASSES))), min_desirable=0.0)
    stage.load()
    files = {f"_window.{i:02d}.jpg": to_jpeg(frame, 92) for i, frame in enumerate(frames(24))}
    meta = {"sample_frames": {"window": list(range(24))}}
    return lambda: apply(stage, [Sample(str(i), files, dict(meta)) for i in range(setup.batch)])


def _videomae(setup: Setup, labels: list[str]) -> Path:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    from tests import tiny

    folder = setup.folder / "videomae"
    if setup.tiny:
        return tiny.videomae(folder, labels)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    VideoMAEForVideoClassification(VideoMAEConfig(**names)).save_pretrained(folder)  # ViT-B, 16 frames of 224, by default
    return folder


def grounding_dino(setup: Setup) -> Work:
    """Swin-T, three words a frame."""
    import torch
    from transformers import BertConfig

    from curation.models import grounding_dino as gd
    from tests import tiny

    folder = setup.folder / "grounding_dino"
    folder.mkdir()
    if setup.tiny:
        path = tiny.grounding_dino(folder)
    else:
        texts = tiny.bert(folder / "bert-base-uncased")
        BertConfig().save_pretrained(texts)  # bert-base-uncased's sizes, by default
        path = folder / "groundingdino_swint.pth"
        torch.save({"model": gd.network_of(gd._settings(folder), texts).state_dict()}, path)
    detector, pictures = gd.GroundingDino(path, folder / "bert-base-uncased", setup.device, setup.precision), frames(setup.batch)
    return lambda: detector(pictures, [WORDS] * setup.batch, 0.35)


def sam(setup: Setup) -> Work:
    """ViT-B: one embedding a frame, a mask for each of three boxes."""
    import torch
    from segment_anything import sam_model_registry

    from curation.models.sam import SegmentAnything
    from tests import tiny

    path = setup.folder / "sam_tiny.pth"
    if setup.tiny:
        tiny.sam(setup.folder)
    else:
        torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    segmenter, pictures = SegmentAnything(path, setup.device, setup.precision), frames(setup.batch)
    boxes = [(20.0, 30.0, 200.0, 300.0), (220.0, 60.0, 400.0, 350.0), (500.0, 10.0, 630.0, 120.0)]
    return lambda: [segmenter.masks(view, boxes) for view in segmenter.look(pictures)]


def yolo_face(setup: Setup) -> Work:
    """YOLOv9-C with one class, 640 px; frame by frame, as the stage calls it."""
    from curation.models.yolo_face import YoloFace
    from tests import tiny

    path = setup.folder / "face.pt"
    if setup.tiny:
        tiny.yolo_face(path)
    else:
        from ultralytics import YOLO
        from ultralytics.nn.tasks import DetectionModel

        model = YOLO("yolov9c.yaml", task="detect")
        model.model = DetectionModel("yolov9c.yaml", nc=1, verbose=False)
        model.model.names = {0: "face"}
        model.save(path)
    detector, pictures = YoloFace(path, setup.device), frames(setup.batch)
    return lambda: [detector.faces(picture) for picture in pictures]


def stable_diffusion(setup: Setup) -> Work:
    """SD-2-inpainting at 512², the stage's default number of steps."""
    from curation.models.stable_diffusion import StableDiffusion
    from tests import tiny

    knobs: dict[str, Any] = {"side": tiny.SIDE, "steps": 2} if setup.tiny else {"side": 512}
    folder = tiny.stable_diffusion(setup.folder / "sd") if setup.tiny else _stable_diffusion(setup.folder / "sd")
    painter = StableDiffusion(folder, setup.device, batch=setup.batch, **knobs)
    hole = np.zeros((knobs["side"],) * 2, bool)
    hole[knobs["side"] // 4 :, knobs["side"] // 4 : -knobs["side"] // 4] = True
    jobs = (frames(setup.batch), [hole] * setup.batch, ["clean and empty background"] * setup.batch, list(range(setup.batch)))
    return lambda: painter(*jobs)


def _stable_diffusion(folder: Path) -> Path:
    """Stable Diffusion 2 inpainting's sizes, in fp16."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests import tiny

    words = tiny.clip_tokenizer(folder / "words")
    sizes = {"in_channels": 9, "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    parts = {
        "unet": UNet2DConditionModel(sample_size=64, **sizes),
        "vae": AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=768, **blocks),
        "text_encoder": CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_act="gelu", **text, **ends)),
        "tokenizer": words,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
    }
    pipeline = StableDiffusionInpaintPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.to(torch.float16).save_pretrained(folder / "model")
    return folder / "model"
