"""Tiny random networks of MSRVTT-Personalization's five metrics in a store of their own, for the real loading code."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from tests.tiny.encoders import SMALL
from tests.tiny.open_set import GROUNDING_DINO, grounding_dino, sam

YOLO_WIDTH = 8
"""By what YOLOv9-C's channels are divided."""


def store(home: Path) -> Path:
    """A folder for `$CURATION_HOME` whose table has the papers' profile. Scores lie on both sides of every threshold."""
    home.mkdir(parents=True)
    source = home / "source"
    torch.manual_seed(0)
    clip(source / "clip-vit-large-patch14")
    dino(source / "dino-vitb16")
    arcface(source / "arcface-r100")
    yolov9(source / "yolov9-face")
    raft(source / "raft-things")
    opened(source)
    table = {}
    for folder in sorted(source.iterdir()):
        facts = {file.name: _facts(file) for file in sorted(folder.iterdir())}
        head = {"description": "tiny", "licence": "none", "source": f"file:{folder}"}
        table[folder.name] = head | {"files": facts}
    (home / "store.yaml").write_text(yaml.safe_dump(table))
    configured = home / "models/groundingdino-swint"
    configured.mkdir(parents=True)
    (configured / "GroundingDINO_tiny.py").write_text(GROUNDING_DINO)
    return home


def _facts(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def clip(folder: Path) -> Path:
    """At 224 px, to which the protocol resizes, in patches of 32; its text knows letters."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77).save_pretrained(folder)
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    sizes = SMALL | {"hidden_size": 64, "num_attention_heads": 1}  # CLIP's heads have 64 numbers
    text = CLIPTextConfig(vocab_size=len(pieces), **ends, **sizes | {"intermediate_size": 256})
    vision = CLIPVisionConfig(image_size=224, patch_size=32, **sizes | {"intermediate_size": 256})
    network = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16))
    return _saved(network, folder)


def dino(folder: Path) -> Path:
    """As the hub's: pickled weights under the names of transformers 4, with the pooling layer that nobody asks for."""
    from transformers import ViTConfig, ViTModel

    folder.mkdir(parents=True)
    network = _drawn(ViTModel(ViTConfig(image_size=224, patch_size=16, layer_norm_eps=1e-12, **SMALL)))
    network.config.save_pretrained(folder)
    torch.save({_old(name): tensor for name, tensor in network.state_dict().items()}, folder / "pytorch_model.bin")
    return folder


def _old(name: str) -> str:
    name = re.sub(r"^layers\.", "encoder.layer.", name).replace("attention.o_proj", "attention.output.dense")
    for new, old in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        name = name.replace(f"attention.{new}", f"attention.attention.{old}")
    return name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")


def arcface(folder: Path) -> Path:
    """One block a stage, of narrow stages."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (8, 3, 3, 3), **norm("bn1", 8), "prelu.weight": (8,)}
    inner = 8
    for stage, outer in enumerate((8, 12, 16, 16), 1):
        name = f"layer{stage}.0"
        shapes |= norm(f"{name}.bn1", inner) | norm(f"{name}.bn2", outer) | norm(f"{name}.bn3", outer)
        shapes |= {f"{name}.conv1.weight": (outer, inner, 3, 3), f"{name}.conv2.weight": (outer, outer, 3, 3)}
        shapes |= {f"{name}.prelu.weight": (outer,), f"{name}.downsample.0.weight": (outer, inner, 1, 1)}
        shapes |= norm(f"{name}.downsample.1", outer)
        inner = outer
    shapes |= norm("bn2", inner) | {"fc.weight": (32, inner * 49), "fc.bias": (32,)} | norm("features", 32)
    folder.mkdir(parents=True)
    torch.save({name: value(name, shape) for name, shape in shapes.items()}, folder / "backbone.pth")
    return folder


def raft(folder: Path) -> Path:
    """In the authors' names, from several GPUs; RAFT has but one size."""
    from torchvision.models.optical_flow import raft_large

    network = raft_large(weights=None, progress=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
    last = network.update_block.flow_head.conv2
    with torch.no_grad():
        last.weight.mul_(RAFT_STEP), last.bias.zero_()
    weights = {f"module.{authors(name)}": tensor for name, tensor in network.state_dict().items()}
    twice = {name.replace("downsample.1", "norm3"): tensor for name, tensor in weights.items() if "downsample.1" in name}
    folder.mkdir(parents=True)
    torch.save(weights | twice, folder / "raft-things.pth")
    return folder


def authors(name: str) -> str:
    """RAFT's authors' name for a layer of torchvision's. What they call norm3 is also the last of `downsample`."""
    for pattern, by in (
        ("feature_encoder", "fnet"),
        ("context_encoder", "cnet"),
        (r"convnormrelu(\d)\.0", r"conv\1"),
        (r"convnormrelu(\d)\.1", r"norm\1"),
        (r"net\.conv\.", "net.conv2."),
        (r"convnormrelu\.0", "conv1"),
        (r"convnormrelu\.1", "norm1"),
        (r"motion_encoder\.conv(c|f)\w+(\d)\.0", r"encoder.conv\1\2"),
        (r"motion_encoder\.conv\.0", "encoder.conv"),
        (r"recurrent_block\.convgru(\d)\.conv(\w)", r"gru.conv\2\1"),
        (r"mask_predictor\.convrelu\.0", "update_block.mask.0"),
        (r"mask_predictor\.conv\.", "update_block.mask.2."),
    ):
        name = re.sub(pattern, by, name)
    return name


def yolov9(folder: Path) -> Path:
    """A pickled network in half precision under "ema"; of the real one what the auxiliary branch needs."""
    folder.mkdir(parents=True)
    weights = {name: value(name, shape) for name, shape in yolov9_shapes(YOLO_WIDTH).items()}
    for level in range(3):
        weights[f"model.38.cv3.{level}.2.bias"].fill_(YOLO_BIAS)
    torch.save({"model": None, "ema": tree(weights).half(), "epoch": 239}, folder / "best.pt")
    return folder


YOLO_BIAS = -7.2
"""Of its classes: the best score of a picture lies about the threshold of 0.2."""
RAFT_STEP = 0.1618
"""Makes the strongest flow of a pair about 3 px: the threshold of frames of 132 px lies between those of the pairs."""
OFF, UNSURE = 2.2, 0.05
"""By what GroundingDINO's logits, and SAM's predicted IoU, are lower than `tests.tiny.open_set` makes them."""


def yolov9_shapes(divisor: int) -> dict[str, tuple[int, ...]]:
    """The weights of YOLOv9-C's backbone, routes and auxiliary branch for one class, channels divided."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inner: int, outer: int, side: int, groups: int = 1) -> None:
        shapes.update({f"{name}.conv.weight": (outer, inner // groups, side, side)} | norm(f"{name}.bn", outer))

    def csp(name: str, inner: int, outer: int) -> None:
        half = outer // 2
        conv(f"{name}.cv1", inner, half, 1), conv(f"{name}.cv2", inner, half, 1), conv(f"{name}.cv3", outer, outer, 1)
        conv(f"{name}.m.0.cv1.conv1", half, half, 3), conv(f"{name}.m.0.cv1.conv2", half, half, 1)
        conv(f"{name}.m.0.cv2", half, half, 3)

    def elan(layer: int, inner: int, *sizes: int) -> None:
        outer, middle, part = sizes
        name = f"model.{layer}"
        conv(f"{name}.cv1", inner, middle, 1), conv(f"{name}.cv4", middle + 2 * part, outer, 1)
        for branch, source in (("cv2", middle // 2), ("cv3", part)):
            csp(f"{name}.{branch}.0", source, part), conv(f"{name}.{branch}.1", part, part, 3)

    def down(layer: int, inner: int, outer: int) -> None:
        conv(f"model.{layer}.cv1", inner // 2, outer // 2, 3), conv(f"model.{layer}.cv2", inner // 2, outer // 2, 1)

    c64, c128, c256, c512 = (channels // divisor for channels in (64, 128, 256, 512))
    for stem, block in ((1, 3), (26, 28)):
        conv(f"model.{stem}", 3, c64, 3), conv(f"model.{stem + 1}", c64, c128, 3), elan(block, c128, c256, c128, c64)
    for block, inner, middle, part in ((5, c256, c256, c128), (7, c512, c512, c256), (9, c512, c512, c256)):
        for at in (block, block + 26 if block == 5 else block + 27 if block == 7 else block + 28):
            down(at - (1 if at == block else 2), inner, inner), elan(at, inner, c512, middle, part)
    for layer, parts in ((23, (c256,)), (24, (c256, c512)), (25, (c256, c512, c512))):
        shapes |= {f"model.{layer}.conv.weight": (sum(parts), c512, 1, 1), f"model.{layer}.conv.bias": (sum(parts),)}
    for level in range(3):
        head = f"model.38.cv2.{level}", f"model.38.cv3.{level}"
        conv(f"{head[0]}.0", c512, 64, 3), conv(f"{head[0]}.1", 64, 64, 3, groups=4)
        conv(f"{head[1]}.0", c512, c512, 3), conv(f"{head[1]}.1", c512, c512, 3)
        shapes |= {f"{head[0]}.2.weight": (64, 16, 1, 1), f"{head[0]}.2.bias": (64,)}
        shapes |= {f"{head[1]}.2.weight": (1, c512, 1, 1), f"{head[1]}.2.bias": (1,)}
    return shapes


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    numbers = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return numbers | {f"{name}.num_batches_tracked": ()}


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """Drawn so that a picture neither fades nor explodes on its way through."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var"):
        return torch.empty(shape).uniform_(0.5, 1.5)
    if len(shape) > 1:
        return torch.randn(shape) * (2 / torch.Size(shape[1:]).numel()) ** 0.5
    if name.endswith("prelu.weight"):
        return torch.full(shape, 0.25)
    return torch.randn(shape) * 0.1 + name.endswith("weight")


def tree(weights: dict[str, Tensor]) -> nn.Module:
    """A network that has nothing but weights."""
    root = nn.Module()
    for name, tensor in weights.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]  # type: ignore[assignment]
        if last in ("running_mean", "running_var", "num_batches_tracked"):
            module.register_buffer(last, tensor)
        else:
            module.register_parameter(last, nn.Parameter(tensor))
    return root


def opened(folder: Path) -> None:
    """GroundingDINO, its BERT and SAM under their names in the store."""
    scratch = folder.with_name("scratch")
    scratch.mkdir()
    detector, segmenter = grounding_dino(scratch), sam(scratch)
    weights = torch.load(detector, weights_only=True)
    common = weights["model"]["module.transformer.encoder.text_layers.1.norm2.bias"]
    weights["model"]["module.transformer.decoder.norm.bias"] -= OFF * common / common.square().sum()
    torch.save(weights, detector)
    masks = torch.load(segmenter, weights_only=True)
    masks["mask_decoder.iou_prediction_head.layers.2.bias"] -= UNSURE
    torch.save(masks, segmenter)
    for name, file in (("groundingdino-swint", detector), ("sam-vit-b", segmenter)):
        (folder / name).mkdir(parents=True)
        file.rename(folder / name / file.name)
    (scratch / "bert-base-uncased").rename(folder / "bert-base-uncased")
    shutil.rmtree(scratch)


def _drawn(network: Any) -> Any:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def _saved(network: Any, folder: Path) -> Path:
    _drawn(network).save_pretrained(folder)
    return folder
