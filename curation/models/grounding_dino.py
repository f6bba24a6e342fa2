"""GroundingDINO (`groundingdino-py`): boxes for any words, scored on each word's own tokens.

The package's own inference decodes phrases, which merges words and gives fragments, and a substring match then takes "man" inside
"woman". Here a box is scored against the exact tokens of each word (PAPER.md §3).
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import groundingdino
import numpy as np
import torch
from groundingdino.models import build_model
from groundingdino.models.GroundingDINO import groundingdino as network
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, BertModel

from curation.models.boxes import Box

Span = range
"""Places of a word's tokens in its prompt."""

SIDES = (800, 1333)
"""Short side a frame is scaled to, and the long side it must not pass, px; of the released inference code. A configuration may
set others as `input_sides`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in [0, 1]."""
TOKENS = 256
"""Longest prompt, with [CLS] and [SEP]; PAPER.md §3."""
AT_ONCE = 8
"""Frames per forward pass; not stated by the paper."""
UNUSED = ("label_enc.weight", "bert.embeddings.position_ids")
"""Weights of released checkpoints that only training or an older transformers knows."""
CONFIG = "GroundingDINO_SwinT_OGC.py"
"""The released configuration that is taken when the weights bring none: MP's Swin-T (PAPER.md §1.7)."""


class Hit(NamedTuple):
    """`box` is xyxy in pixels of the frame, within it; `score` is (max + mean)/2 of the word's token probabilities, `mean` the
    latter."""

    box: Box
    score: float
    mean: float


class Prompt(NamedTuple):
    """A text for the detector, and the tokens of each of its words; `words` are indices of the words asked for."""

    text: str
    words: list[int]
    spans: list[Span]


class WrongWeights(Exception):
    """The checkpoint does not fit the configuration it is loaded with."""


class GroundingDino:
    """`checkpoint` is a released `*.pth`; beside it lies its configuration (`*.py`) unless that is the released Swin-T's. `texts`
    is a folder with BERT's tokenizer and `config.json`: its weights are in the checkpoint. `precision`: "fp32", or "bf16" by
    autocast. Raises `WrongWeights`."""

    def __init__(self, checkpoint: Path, texts: Path, device: str = "cpu", precision: str = "fp32"):
        self.device = device
        self.half = precision == "bf16"
        settings = _settings(checkpoint.parent)
        self.sides: tuple[int, int] = settings.pop("input_sides", SIDES)
        self.model: Any = _load(checkpoint, texts, settings).to(device)
        self.tokenizer: Any = self.model.tokenizer
        self._alone = threading.Lock()  # a tokenizer keeps how it was last told to pad

    def __call__(self, frames: Sequence[np.ndarray], words: Sequence[Sequence[str]], lowest: float) -> list[list[list[Hit]]]:
        """Hits above `lowest` by frame and word, best first; `words[i]` are looked for on `frames[i]`, RGB uint8 of any size.

        Within a prompt a query goes to the word that it scores best on. Frames of one size go through the network together.
        """
        with self._alone:
            asked = [(f, prompt) for f, row in enumerate(words) for prompt in split(row, self.tokenizer)]
        found: list[list[list[Hit]]] = [[[] for _ in row] for row in words]
        inputs = {f: prepare(frames[f], self.sides) for f in dict.fromkeys(f for f, _ in asked)}
        for together in _alike([inputs[f].shape for f, _ in asked]):
            logits, boxes = self._forward(
                torch.stack([inputs[asked[i][0]] for i in together]), [asked[i][1].text for i in together]
            )
            for i, own_logits, own_boxes in zip(together, logits, boxes, strict=True):
                f, prompt = asked[i]
                hits = assigned(own_logits, _pixels(own_boxes, *frames[f].shape[:2]), prompt.spans, lowest)
                for word, own in zip(prompt.words, hits, strict=True):
                    found[f][word] = own
        return found

    def tokens(self, text: str) -> list[int]:
        """Its token numbers, [CLS] first and [SEP] last."""
        with self._alone:
            return list(self.tokenizer(text)["input_ids"])

    def queries(self, frames: Sequence[np.ndarray], text: str) -> tuple[np.ndarray, np.ndarray]:
        """What the network itself says, for who scores it by other rules: of frames of one size, RGB uint8, the probabilities of
        a text's tokens, float32 [N, Q, 256], and boxes [N, Q, 4], xyxy px, that may pass the frame."""
        chances, boxes = [], []
        for start in range(0, len(frames), AT_ONCE):
            part = [prepare(frame, self.sides) for frame in frames[start : start + AT_ONCE]]
            logits, own = self._forward(torch.stack(part), [text] * len(part))
            chances.append(logits.sigmoid())
            boxes.append(own * torch.tensor([frames[0].shape[1], frames[0].shape[0]] * 2))
        placed = torch.cat(boxes)
        placed[..., :2] -= placed[..., 2:] / 2
        placed[..., 2:] += placed[..., :2]
        return torch.cat(chances).numpy(), placed.numpy()

    @torch.inference_mode()
    def _forward(self, images: Tensor, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Logits N×Q×256 (-inf where there is no token) and boxes N×Q×4 (centre and sides, in shares of the frame)."""
        with self._alone, torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            out = self.model(images.to(self.device), captions=texts)
        return out["pred_logits"].float().cpu(), out["pred_boxes"].float().cpu()


def prepare(frame: np.ndarray, sides: tuple[int, int] = SIDES) -> Tensor:
    """An RGB uint8 frame as the released code feeds it: scaled bilinearly with antialiasing, normalised; float32 3×H×W."""
    height, width = scaled(frame.shape[0], frame.shape[1], *sides)
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
    return ((torch.from_numpy(np.array(image)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)


def scaled(height: int, width: int, least: int, most: int) -> tuple[int, int]:
    """Sides after the released resizing: the short one `least` unless the long one would pass `most`; the other rounded down."""
    short, long = min(height, width), max(height, width)
    side = least if long / short * least <= most else int(round(most * short / long))
    if side == short:
        return height, width
    return (int(side * height / width), side) if width < height else (side, int(side * width / height))


def normal(word: str) -> str:
    """A word as it stands in a prompt: lower case, and without what separates words there ("." and "?")."""
    return " ".join(word.lower().replace(".", " ").replace("?", " ").split())


def split(words: Sequence[str], tokenizer: Any) -> list[Prompt]:
    """Prompts of at most 256 tokens with all words, in their order: `man . green bottle .`; a word without tokens is left out."""
    tokens = [len(tokenizer(normal(word), add_special_tokens=False)["input_ids"]) for word in words]
    groups: list[list[int]] = []
    room = 0
    for i, count in enumerate(tokens):
        if not count:
            continue
        if count + 1 > room or not groups:
            groups.append([])
            room = TOKENS - 2
        groups[-1].append(i)
        room -= count + 1
    prompts = []
    for group in groups:
        ends = np.cumsum([tokens[i] + 1 for i in group]).tolist()
        spans = [range(end - tokens[i], min(end, TOKENS - 1)) for i, end in zip(group, ends, strict=True)]
        prompts.append(Prompt(" . ".join(normal(words[i]) for i in group) + " .", group, spans))
    return prompts


def span_scores(logits: Tensor, spans: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """(max + mean)/2 of the token probabilities over each span, and the mean alone: both Q×spans, from Q×256 logits."""
    chances = logits.sigmoid()
    means = torch.stack([chances[:, span.start : span.stop].mean(1) for span in spans], 1)
    peaks = torch.stack([chances[:, span.start : span.stop].amax(1) for span in spans], 1)
    return (peaks + means) / 2, means


def assigned(logits: Tensor, boxes: np.ndarray, spans: Sequence[Span], lowest: float) -> list[list[Hit]]:
    """Hits by span, best first: each query where it scores best, if that is at least `lowest`. `boxes` are Q×4 pixels."""
    scores, means = span_scores(logits, spans)
    best = scores.argmax(1)
    hits: list[list[Hit]] = [[] for _ in spans]
    for query in torch.nonzero(scores.amax(1) >= lowest).flatten().tolist():
        span = int(best[query])
        x0, y0, x1, y1 = boxes[query].tolist()
        hits[span].append(Hit((x0, y0, x1, y1), float(scores[query, span]), float(means[query, span])))
    return [sorted(row, key=lambda hit: (-hit.score, hit.box)) for row in hits]


def _pixels(boxes: Tensor, height: int, width: int) -> np.ndarray:
    """Centre and sides in shares of the frame → xyxy pixels within it."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1).clamp(0, 1)
    return (corners * torch.tensor([width, height, width, height])).double().numpy()


def _alike(shapes: Sequence[torch.Size]) -> list[list[int]]:
    """Indices by shape, at most `AT_ONCE` together: a frame padded to a larger neighbour would give other boxes than alone."""
    groups: dict[torch.Size, list[int]] = {}
    for i, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(i)
    return [group[i : i + AT_ONCE] for group in groups.values() for i in range(0, len(group), AT_ONCE)]


def network_of(settings: dict[str, Any], texts: Path) -> nn.Module:
    """The network of a configuration, with random weights, on the CPU."""
    network.BertModelWarper = TextEncoder
    network.get_tokenlizer = SimpleNamespace(get_tokenlizer=AutoTokenizer.from_pretrained, get_pretrained_language_model=_bert)
    return build_model(SimpleNamespace(**settings | {"text_encoder_type": str(texts)}))


def _load(checkpoint: Path, texts: Path, settings: dict[str, Any]) -> nn.Module:
    """The network with its weights, in evaluation mode on the CPU."""
    model: Any = network_of(settings, texts)
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    result = model.load_state_dict({key.removeprefix("module."): value for key, value in weights.items()}, strict=False)
    unknown = [key for key in result.unexpected_keys if key not in UNUSED]
    if wrong := [*result.missing_keys, *unknown]:
        raise WrongWeights(f"{checkpoint} does not fit its configuration: {len(wrong)} weights differ, the first is {wrong[0]}")
    for layer in model.transformer.encoder.text_layers:
        layer.register_forward_pre_hook(_by_sample, with_kwargs=True)
    return model.eval()


def _by_sample(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Repeat the masks of a batch head by head within each sample, as attention expects it. The package repeats the whole batch,
    so that frames with different prompts see each other's masks."""
    return args, {**kwargs, "src_mask": kwargs["src_mask"].repeat_interleave(layer.nhead, 0)}


def _settings(folder: Path) -> dict[str, Any]:
    """The constants of a configuration file, which is Python but is not run; without what is for training."""
    own = sorted(folder.glob("*.py"))
    path = own[0] if own else Path(groundingdino.__path__[0], "config", CONFIG)
    rows = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    settings = {row.targets[0].id: ast.literal_eval(row.value) for row in rows if isinstance(row.targets[0], ast.Name)}
    return settings | {"use_checkpoint": False, "use_transformer_ckpt": False}


def _bert(folder: str) -> BertModel:
    """BERT's shape; the weights come with the checkpoint."""
    return BertModel(AutoConfig.from_pretrained(folder))


class TextEncoder(nn.Module):
    """BERT under the package's names for it. Its own wrapper reads methods that transformers 5 has no more."""

    def __init__(self, bert_model: BertModel):
        super().__init__()
        self.config, self.embeddings = bert_model.config, bert_model.embeddings
        self.encoder, self.pooler = bert_model.encoder, bert_model.pooler

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, position_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`attention_mask` N×T or N×T×T, true where a token may look."""
        x = self.embeddings(input_ids=input_ids, position_ids=position_ids, token_type_ids=token_type_ids)
        mask = attention_mask[:, None, None] if attention_mask.dim() == 2 else attention_mask[:, None]
        mask = (1.0 - mask.to(x.dtype)) * torch.finfo(x.dtype).min
        return {"last_hidden_state": self.encoder(x, attention_mask=mask).last_hidden_state}
