"""Tiny random checkpoints of the trainer's encoders, in the layout of the released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["a", "woman", "in", "mask", "and", "coat", "the", "dog", "long", "brown", "hair", "green", "bottle", "cap"]
"""What the tiny tokenizers know whole; other words fall into letters."""
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}


def minilm(folder: Path) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS[1:], *(f"##{c}" for c in LETTERS), ",", "-"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    _saved(BertModel, BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, **SMALL), folder)
    return folder


def t5(folder: Path) -> Path:
    """With a SentencePiece model and no tokenizer.json, as Google's and CogVideoX's."""
    from sentencepiece import SentencePieceTrainer
    from transformers import T5Config, T5EncoderModel

    folder.mkdir(parents=True)
    with (folder / "spiece.model").open("wb") as file:
        numbers = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 40, "hard_vocab_limit": False}
        lines = iter([" ".join(WORDS)] * 50)
        SentencePieceTrainer.train(sentence_iterator=lines, model_writer=file, minloglevel=2, **numbers)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "model_max_length": 512}))
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    return _saved(T5EncoderModel, T5Config(vocab_size=200, **sizes), folder)


def clip(folder: Path) -> Path:
    """Text and images in one checkpoint, as OpenAI's."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    letters = sorted(ByteLevel.alphabet())
    merges = [("a", "n"), ("an", "d</w>"), ("d", "o"), ("do", "g</w>")]
    pieces = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    folder.mkdir(parents=True)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    start, end = len(vocabulary) - 2, len(vocabulary) - 1
    text = CLIPTextConfig(vocab_size=len(vocabulary), bos_token_id=start, eos_token_id=end, pad_token_id=end, **SMALL)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **SMALL)
    _saved(CLIPModel, CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16), folder)
    return folder


def dinov2(folder: Path) -> Path:
    """Positions for 56 px, as the released ones are for 518: they are interpolated to 224."""
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    return _saved(Dinov2Model, Dinov2Config(image_size=56, patch_size=14, **sizes), folder)


def mae(folder: Path) -> Path:
    """With its decoder, as the released one."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = ViTMAEConfig(image_size=32, patch_size=8, decoder_intermediate_size=16, **decoder, **SMALL)
    return _saved(ViTMAEForPreTraining, config, folder)


def cogvideox(folder: Path) -> Path:
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(0)
    network = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2, scaling_factor=0.7
    )
    network.save_pretrained(folder)
    return folder


def _saved(cls: Any, config: Any, folder: Path) -> Path:
    """Every weight is drawn anew, so that none hides behind a zero or a one."""
    torch.manual_seed(0)
    network = cls(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder
