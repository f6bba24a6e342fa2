"""The five metrics of MSRVTT-Personalization by its released code and by ours, on the same videos with the same networks.

    .venv-paper/bin/python -m benchmarks.mp_parity GIT_DIR [--golden tests/benchmark/golden/protocol.json]

GIT_DIR: a git directory or checkout of github.com/snap-research/MSRVTT-Personalization (non-commercial licence: nothing of it is
kept here but the numbers it prints). Its folders are unpacked into a temporary one and made to run on a CPU, in one process:
  - "cuda" is "cpu", the process group gloo's; videos are read in this process; torch.load takes pickles as it used to;
  - networks are tiny and random, of the architectures' shapes (`tests/tiny/protocol.py`): ArcFace's widths and depths, the
    channels of YOLOv9-C, SAM's sizes, CLIP's and DINO's (timm's ViT for torch.hub's), and the sides GroundingDINO sees frames at
    (96, 160 instead of 800, 1333) are replaced; RAFT is whole;
  - GroundingDINO's BERT runs under our adapter to transformers 5 on both sides: the package it comes in knows only version 4.
Embeddings of the truth are made by its own script's functions. It needs, besides .venv-paper's: scipy, scikit-learn, easydict,
openai-clip, ftfy, seaborn (`pip install --target FOLDER --no-deps …`, and FOLDER on PYTHONPATH).

Prints a line per video and metric: theirs, ours, the difference; fails if one is above 1e-3. With --golden it writes theirs down,
for `tests/benchmark/test_protocol.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from curation.benchmark.case import Case
from curation.benchmark.metrics import Video
from tests.benchmark import protocol
from tests.tiny import protocol as tiny

LIMIT = 1e-3
NAMES = {
    "text_s": "text_clip_similarity.TextClip",
    "vid_s": "video_clip_similarity.VideoClip",
    "subj_s": "subject_dino_similarity.SubjectDino",
    "face_s": "arcface_similarity.Arcface",
    "dync_d": "dynamic_degree.DynamicDegree",
}
DINO_NAMES = (
    (r"^cls_token", "embeddings.cls_token"),
    (r"^pos_embed", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^norm\.", "layernorm."),
    (r"^blocks", "encoder.layer"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv", ".attention.attention.qkv"),
    (r"\.attn\.proj", ".attention.output.dense"),
    (r"\.mlp\.fc1", ".intermediate.dense"),
    (r"\.mlp\.fc2", ".output.dense"),
)
"""The hub's names of timm's layers."""
Numbers = dict[str, dict[str, float]]
"""By video and metric."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("git_dir", type=Path)
    parser.add_argument("--golden", type=Path)
    arguments = parser.parse_args()
    golden = arguments.golden and arguments.golden.absolute()  # theirs has to be run where it lies
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        home = tiny.store(Path(scratch) / "home")
        os.environ["CURATION_HOME"] = str(home)
        case, videos = protocol.case(Path(scratch) / "case"), protocol.videos()
        ours = by_us(case, videos)
        checkout = Path(scratch) / "theirs"
        unpacked(arguments.git_dir, checkout)
        theirs = Theirs(checkout, home / "source", home)(case, videos)
    worst = 0.0
    for video, numbers in theirs.items():
        for metric, value in numbers.items():
            apart = abs(value - ours[video][metric])
            worst = max(worst, apart)
            print(f"{video:10} {metric:7} theirs {value:+.9f}  ours {ours[video][metric]:+.9f}  apart {apart:.1e}")
    print(f"worst {worst:.1e}")
    torch.distributed.destroy_process_group()
    if golden:
        golden.write_text(json.dumps(theirs, indent=1) + "\n")
    sys.exit(worst > LIMIT)


def by_us(case: Case, videos: dict[str, Video]) -> Numbers:
    from curation.benchmark.profiles import profile

    metrics = [metric for metric in profile("papers", "cpu") if metric.columns[0] in NAMES]
    truths = [metric.truth(case) for metric in metrics]
    return {
        name: {
            column: float(value)
            for metric, truth in zip(metrics, truths, strict=True)
            for column, value in metric.score(video, case, truth).items()
        }
        for name, video in videos.items()
    }


def unpacked(git_dir: Path, folder: Path) -> None:
    """Its protocol, its models' code and the script of the embeddings; a snapshot may lack the pictures."""
    folder.mkdir()
    listing = ["git", "-C", str(git_dir), "ls-tree", "-r", "--name-only", "HEAD", "evaluation_protocol", "models"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\n")
    names = [n for n in names if n.endswith((".py", ".yaml"))] + [
        "msrvtt_personalization/prepare_msrvtt_personalization_embeddings.py"
    ]
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        show = ["git", "-C", str(git_dir), "show", f"HEAD:{name}"]
        target.write_bytes(subprocess.run(show, check=True, capture_output=True).stdout)


class Theirs:
    """The released evaluators in a folder of theirs, on tiny networks of the folder `source`."""

    def __init__(self, folder: Path, source: Path, home: Path):
        self.folder, self.source = folder, source
        self._patch_text()
        self._stand_in()
        os.chdir(folder / "evaluation_protocol")
        sys.path[:0] = [".", "../models", "../models/Grounded-Segment-Anything", "../models/YOLOv9"]
        self._patch_networks(home)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

    def __call__(self, case: Case, videos: dict[str, Video]) -> Numbers:
        found: Numbers = {}
        for name, video in videos.items():
            folder = self.folder / "videos" / name
            folder.mkdir(parents=True)
            lossless(folder / "clip.mkv", video)
            self._embeddings(case, folder / "clip")
            found[name] = {}
            for metric, where in NAMES.items():
                module, _, kind = where.partition(".")
                suffix = "VideoEvaluator" if metric == "dync_d" else "SimilarityVideoEvaluator"
                evaluators = __import__(f"evaluation.evaluators.{module}_video_evaluator", fromlist=["_"])
                facts = {
                    "generated_video_root": str(folder),
                    "frames_count": len(video.frames),
                    "batch_size": 1,
                    "num_workers": 0,
                }
                (value,) = getattr(evaluators, kind + suffix)(facts).evaluate().values()
                found[name][metric] = float(value)
        return found

    def _patch_text(self) -> None:
        for file in (self.folder / "evaluation_protocol").rglob("*.py"):
            text = file.read_text().replace('"cuda"', '"cpu"')
            file.write_text(text.replace("RandomResize([800], max_size=1333)", "RandomResize([96], max_size=160)"))
        network = self.folder / "models/arcface/backbones/iresnet.py"
        text = (
            network.read_text().replace("self.inplanes = 64", "self.inplanes = 8").replace("num_features=512", "num_features=32")
        )
        text = text.replace("512 * block.expansion", "16 * block.expansion")
        for stage, (wide, narrow) in enumerate(((64, 8), (128, 12), (256, 16), (512, 16)), 1):
            text = re.sub(rf"(self\.layer{stage} = self\._make_layer\(block,\s*){wide},", rf"\g<1>{narrow},", text)
        network.write_text(text)
        script = self.folder / "msrvtt_personalization/prepare_msrvtt_personalization_embeddings.py"
        (self.folder / "evaluation_protocol/their_embeddings.py").write_text(script.read_text())

    def _stand_in(self) -> None:
        """For what is imported and not needed here."""
        shell: Any = types.ModuleType("IPython")
        shell.get_ipython, shell.version_info, shell.display = (lambda: None), (8, 24), types.ModuleType("IPython.display")
        shell.display.display = print
        sys.modules |= {"IPython": shell, "IPython.display": shell.display}

    def _patch_networks(self, home: Path) -> None:
        import clip
        import timm

        load = torch.load
        torch.load = lambda *given, **named: load(*given, **{"weights_only": False} | named)
        models = self.folder / "models"
        (models / "raft/models").mkdir()
        (models / "arcface/weight").mkdir()
        (models / "YOLOv9/weight").mkdir()
        (models / "raft/models/raft-things.pth").write_bytes((self.source / "raft-things/raft-things.pth").read_bytes())
        (models / "arcface/weight/backbone.pth").write_bytes((self.source / "arcface-r100/backbone.pth").read_bytes())
        self._yolo(models / "YOLOv9")
        clips, dinos = self._clip(clip), self._dino(timm)
        clip.load = lambda *given, **named: (clips, None)
        torch.hub.load = lambda *given, **named: dinos

        from arcface import backbones, inference
        from arcface.backbones.iresnet import IBasicBlock, IResNet

        for module in (backbones, inference):
            module.get_model = lambda name, **named: IResNet(IBasicBlock, [1, 1, 1, 1])
        for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
            del sys.modules[name]  # ours comes from a package, theirs lies in the checkout
        import evaluation.metrics.distributed_subject_dino_similarity as subject

        from curation.models import grounding_dino

        settings = grounding_dino._settings(home / "models/groundingdino-swint")
        settings.pop("input_sides")
        texts = self.source / "bert-base-uncased"

        def detector(*given: Any, **named: Any) -> Any:
            network = grounding_dino.network_of(settings, texts)
            weights = torch.load(self.source / "groundingdino-swint/groundingdino_tiny.pth")["model"]
            network.load_state_dict(subject.clean_state_dict(weights), strict=False)
            return network.eval()

        subject.load_grounding_model = detector
        subject.sam_model_registry = {"vit_b": lambda checkpoint: self._sam()}

    def _yolo(self, folder: Path) -> None:
        """yolov9-c.yaml with fewer channels, pickled whole; of the auxiliary branch our weights."""
        import yaml
        from models.yolo import DetectionModel

        plan = yaml.safe_load((folder / "models/detect/yolov9-c.yaml").read_text())
        for row in (*plan["backbone"], *plan["head"]):
            if row[2] in ("Conv", "ADown", "RepNCSPELAN4", "SPPELAN"):
                rest = {"Conv": 1, "ADown": 1, "RepNCSPELAN4": 3, "SPPELAN": 2}[row[2]]
                row[3][:rest] = [channels // tiny.YOLO_WIDTH for channels in row[3][:rest]]
            elif row[2] == "CBLinear":
                row[3] = [[channels // tiny.YOLO_WIDTH for channels in row[3][0]]]
        network = DetectionModel(plan | {"nc": 1}, ch=3, nc=1)
        from curation.models.pickled import weights_of

        ours = weights_of(self.source / "yolov9-face/best.pt", "ema")
        missing = network.load_state_dict(ours, strict=False)
        assert not missing.unexpected_keys, missing.unexpected_keys[:3]
        network.half()
        torch.save({"model": network, "ema": None}, folder / "weight/best.pt")
        pickled = weights_of(folder / "weight/best.pt", "ema", "model")
        assert all(torch.equal(pickled[name], value) for name, value in ours.items()), "their pickle is read as ours is"

    def _clip(self, clip: Any) -> Any:
        from safetensors.torch import load_file

        ours = load_file(self.source / "clip-vit-large-patch14/model.safetensors")
        vocabulary = ours["text_model.embeddings.token_embedding.weight"].shape[0]
        network = clip.model.CLIP(16, 224, 3, 64, 32, 77, vocabulary, 64, 1, 3)
        state = {
            "visual.class_embedding": ours["vision_model.embeddings.class_embedding"],
            "visual.positional_embedding": ours["vision_model.embeddings.position_embedding.weight"],
            "visual.conv1.weight": ours["vision_model.embeddings.patch_embedding.weight"],
            "visual.proj": ours["visual_projection.weight"].T,
            "positional_embedding": ours["text_model.embeddings.position_embedding.weight"],
            "token_embedding.weight": ours["text_model.embeddings.token_embedding.weight"],
            "text_projection": ours["text_projection.weight"].T,
            "logit_scale": ours["logit_scale"],
        }
        norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
        norms["ln_final"] = "text_model.final_layer_norm"
        parts = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
        parts |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        for end in ("weight", "bias"):
            state |= {f"{theirs}.{end}": ours[f"{name}.{end}"] for theirs, name in norms.items()}
            for side, name in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
                for i in range(3):
                    block, own = f"{side}.resblocks.{i}", f"{name}.encoder.layers.{i}"
                    state |= {f"{block}.{theirs}.{end}": ours[f"{own}.{part}.{end}"] for theirs, part in parts.items()}
                    heads = [ours[f"{own}.self_attn.{x}_proj.{end}"] for x in "qkv"]
                    state[f"{block}.attn.in_proj_{end}"] = torch.cat(heads)
        network.load_state_dict(state)
        return network.eval()

    def _dino(self, timm: Any) -> Any:
        from functools import partial

        ours = torch.load(self.source / "dino-vitb16/pytorch_model.bin")
        norm = partial(torch.nn.LayerNorm, eps=1e-6)  # as facebookresearch/dino has it
        network = timm.models.vision_transformer.VisionTransformer(
            embed_dim=32, depth=3, num_heads=2, mlp_ratio=1.5, num_classes=0, norm_layer=norm
        )
        state = {}
        for name in network.state_dict():
            own = name
            for theirs, hub in DINO_NAMES:
                own = re.sub(theirs, hub, own)
            parts = [own.replace("qkv", part) for part in ("query", "key", "value")] if "qkv" in own else [own]
            state[name] = torch.cat([ours[part] for part in parts])
        network.load_state_dict(state)
        return network.eval()

    def _sam(self) -> Any:
        from functools import partial

        from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

        decoder = {"num_multimask_outputs": 3, "iou_head_depth": 3, "iou_head_hidden_dim": 32, "transformer_dim": 32}
        network = Sam(
            ImageEncoderViT(
                **{"img_size": 128, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "out_chans": 32},
                **{"use_rel_pos": True, "window_size": 4, "global_attn_indexes": (1,)},
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            ),
            PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=4),
            MaskDecoder(transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=8, mlp_dim=64), **decoder),
            pixel_mean=[123.675, 116.28, 103.53],
            pixel_std=[58.395, 57.12, 57.375],
        )
        network.load_state_dict(torch.load(self.source / "sam-vit-b/sam_tiny.pth"), strict=False)
        return network.eval()

    def _embeddings(self, case: Case, stem: Path) -> None:
        """The truth's, by the functions of their script; what it does between them is done here."""
        import clip
        import their_embeddings as script
        from transformers import AutoTokenizer

        network, _ = clip.load("ViT-L/14")
        dino = torch.hub.load("facebookresearch/dino:main", "dino_vitb16")
        with torch.no_grad():
            tokenizer = AutoTokenizer.from_pretrained(self.source / "clip-vit-large-patch14")
            tokens = torch.zeros(1, 77, dtype=torch.int)  # as clip.tokenize fills it, with the tiny network's few words
            found = tokenizer(case.prompt, truncation=True, max_length=77)["input_ids"]
            tokens[0, : len(found)] = torch.tensor(found)
            torch.save(network.encode_text(tokens)[0], f"{stem}.text_embeddings.pt")
            frames = [Image.open(case.folder / f"frame{number}.jpg") for number in (1, 2, 3)]
            squares = torch.stack([script.pil_to_tensor(f, square_mode="cropping", normalization_mode="clip") for f in frames])
            torch.save(network.encode_image(squares), f"{stem}.video_embeddings.pt")
            subjects = {}
            for word in case.words:
                cutouts = [script.add_white_background(Image.open(file)) for file in case.cutouts[word]]
                padded = [script.pil_to_tensor(c, square_mode="padding", normalization_mode="imagenet") for c in cutouts]
                subjects[word] = dino(torch.stack(padded))
            with gzip.open(f"{stem}.subject_embeddings.pkl.gz", "wb") as file:
                pickle.dump(subjects, file)
            arcface = script.build_arcface_model("r100", "../models/arcface/weight/backbone.pth")
            faces = [Image.open(file).convert("RGBA") for file in case.face_files[case.with_face[0]]]
            crops = [
                Image.fromarray(np.array(face)[..., :3]) for face in faces
            ]  # they crop the frame: the colours under the mask
            torch.save(script.extract_arcface_embeddings(crops, arcface), f"{stem}.face_embeddings.pt")


def lossless(file: Path, video: Video) -> None:
    """FFV1 in Matroska: the very frames."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=int(video.fps))
        stream.height, stream.width = video.frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in video.frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


if __name__ == "__main__":
    main()
