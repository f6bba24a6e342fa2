"""GroundingDINO with its BERT, and SAM, in the layout of the released ones."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = ["a", "the", "dog", "man", "woman", "person", "cat", "car", "bottle", "long", "brown", "hair", "green", "capped", "coat"]
"""What the tiny BERT knows whole; other words fall into letters."""

GROUNDING_DINO = """
modelname = "groundingdino"
backbone = "swin_T_224_1k"
position_embedding = "sine"
pe_temperatureH = 20
pe_temperatureW = 20
return_interm_indices = [1, 2, 3]
backbone_freeze_keywords = None
enc_layers = 2
dec_layers = 2
pre_norm = False
dim_feedforward = 64
hidden_dim = 256
dropout = 0.0
nheads = 8
num_queries = 40
query_dim = 4
num_patterns = 0
num_feature_levels = 4
enc_n_points = 4
dec_n_points = 4
two_stage_type = "standard"
two_stage_bbox_embed_share = False
two_stage_class_embed_share = False
transformer_activation = "relu"
dec_pred_bbox_embed_share = True
dn_box_noise_scale = 1.0
dn_label_noise_ratio = 0.5
embed_init_tgt = True
dn_labelbook_size = 20
max_text_len = 256
text_encoder_type = "bert-base-uncased"
use_text_enhancer = True
use_fusion_layer = True
use_checkpoint = True
use_transformer_ckpt = True
use_text_cross_attention = True
text_dropout = 0.0
fusion_dropout = 0.0
fusion_droppath = 0.1
sub_sentence_present = True
input_sides = (96, 160)
"""
"""The released Swin-T's with small sizes where the package allows: neither the backbone nor `hidden_dim` can shrink. Our
`input_sides` keeps the frames small."""


def bert(folder: Path) -> Path:
    """Tokenizer and `config.json` of a one-layer BERT whose special tokens have bert-base-uncased's numbers."""
    from transformers import BertConfig, BertTokenizerFast

    vocabulary = [f"[unused{i}]" for i in range(1030)]
    for number, token in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}.items():
        vocabulary[number] = token
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    known = [*WORDS, *letters, *(f"##{letter}" for letter in letters), "-", "'"]
    vocabulary[200 : 200 + len(known)] = known
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertConfig(vocab_size=len(vocabulary), max_position_embeddings=256, **small).save_pretrained(folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    """`groundingdino_tiny.pth`, its configuration and BERT's folder. Every weight is drawn, so that none hides behind a zero."""
    from curation.models import grounding_dino

    (folder / "GroundingDINO_tiny.py").write_text(GROUNDING_DINO)
    texts = bert(folder / "bert-base-uncased")
    settings = grounding_dino._settings(folder)
    settings.pop("input_sides")
    torch.manual_seed(0)
    model = grounding_dino.network_of(settings, texts)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone"):
                parameter.add_(0.03 * torch.randn_like(parameter))
        last = model.transformer.encoder.text_layers[-1].norm2
        last.weight.mul_(0.1), last.bias.mul_(0.1)  # so that logits spread over a few units, not hundreds
    path = folder / "groundingdino_tiny.pth"
    torch.save({"model": {f"module.{key}": value for key, value in model.state_dict().items()}}, path)
    return path


def sam(folder: Path) -> Path:
    """`sam_tiny.pth`: an encoder of 128 px."""
    from functools import partial

    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=128,
        patch_size=16,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        out_chans=32,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    )
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=4)
    decoder = MaskDecoder(
        transformer_dim=32,
        transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=8, mlp_dim=64),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=32,
    )
    model = Sam(encoder, prompts, decoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        decoder.iou_prediction_head.layers[-1].bias.add_(1.0)  # so that masks pass the usual threshold
    path = folder / "sam_tiny.pth"
    torch.save(model.state_dict(), path)
    return path


def open_set(folder: Path) -> Path:
    """All that `segment_entities: {model: groundingdino, weights: …}` asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    grounding_dino(folder)
    sam(folder)
    return folder
