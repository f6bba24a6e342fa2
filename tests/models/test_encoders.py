from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from curation.models.encoders import IMAGENET, LENGTHS, OPENAI, TextTokens, fit, image_encoder, text_encoder, words_of
from curation.store import store
from tests.tiny import encoders as tiny

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]

CAPTION = "a woman in a mask and coat, the dog"
WOMAN, MASK, COMMA = (2, 7), (13, 17), (26, 27)
LONG = "a dog " * 60 + "woman"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for make in (tiny.minilm, tiny.clip, tiny.dinov2, tiny.mae):
        make(folder / make.__name__)
    return folder


def encoder_of(name: str, weights: Path, **knobs: Any):
    if name == "t5" and not (weights / "t5").exists():
        pytest.importorskip("sentencepiece", reason="T5's tokenizer is a SentencePiece model")
        tiny.t5(weights / "t5")
    return text_encoder(name, "cpu", str(weights / name), **knobs)


@pytest.mark.parametrize("name", ["minilm", "t5", "clip"])
def test_every_token_has_an_embedding_a_mask_and_its_characters(name, weights):
    encoder = encoder_of(name, weights, length=38)
    tokens = encoder([CAPTION, "a dog"])
    assert tokens.embeddings.shape == (2, 38, encoder.dim) and tokens.mask.shape == (2, 38)
    assert encoder.length == 38 and encoder.dim == 32
    for row, mask, offsets, caption in zip(tokens.embeddings, tokens.mask, tokens.offsets, (CAPTION, "a dog"), strict=True):
        count = int(mask.sum())
        assert mask[:count].all() and not mask[count:].any() and (row[count:] == 0).all() and (row[:count].abs().sum(1) > 0).all()
        covered = {i for first, last in offsets for i in range(first, last)}
        assert covered >= {i for i, letter in enumerate(caption) if letter != " "} and max(covered) < len(caption)
        assert all(span == (0, 0) for span in offsets[count:])


@pytest.mark.parametrize("name", ["minilm", "t5", "clip"])
def test_a_prompt_is_encoded_as_the_library_does_without_padding(name, weights):
    encoder = encoder_of(name, weights, length=38)
    ids = encoder._tokenizer(CAPTION, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = encoder._network(input_ids=ids).last_hidden_state[0]
    found = encoder(["a dog", CAPTION])
    assert int(found.mask[1].sum()) == len(expected)
    torch.testing.assert_close(found.embeddings[1, : len(expected)], expected, atol=2e-5, rtol=1e-4)


def test_cogvideox_reads_the_padding_as_its_pipeline_does(weights):
    """Embeddings of all L tokens, 226 by default, without a mask; what fills them up is no zero. Words are found."""
    encoder_of("t5", weights)
    encoder = text_encoder("t5-cogvideox", "cpu", str(weights / "t5"), length=40)
    found = encoder([CAPTION, ""])
    ids = encoder._tokenizer([CAPTION, ""], padding="max_length", max_length=40, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = encoder._network(ids)[0]
    torch.testing.assert_close(found.embeddings, expected)
    assert found.mask.all() and found.embeddings.any(2).all()
    assert words_of(found, [[WOMAN], [None]], 2)[0].any() and LENGTHS["t5-cogvideox"] == 226


@pytest.mark.parametrize("name", ["minilm", "t5", "clip"])
@pytest.mark.parametrize("caption", ["", " ", "😀", "naïve 😀 woman", "дом 家", "\n\t", LONG, "a" * 500])
def test_odd_captions_are_encoded(name, caption, weights):
    encoder = encoder_of(name, weights, length=20)
    tokens = encoder([caption, CAPTION])
    assert tokens.embeddings.isfinite().all() and tokens.mask.any(1).all() and len(tokens.offsets[0]) == 20
    assert torch.equal(words_of(tokens, [[None], [None]], 4), torch.zeros(2, 1, 4, 32))


@pytest.mark.parametrize("name", ["minilm", "t5", "clip"])
def test_a_word_after_an_emoji_is_found_and_one_beyond_the_cut_is_not(name, weights):
    encoder = encoder_of(name, weights, length=20)
    tokens = encoder(["naïve 😀 woman"[2:], LONG])  # the first: "ïve 😀 woman"
    words = words_of(tokens, [[(6, 11), (4, 5)], [(2, 5), (360, 365)]], 8)
    assert words[0, 0].any() and words[0, 1].any() and words[1, 0].any() and not words[1, 1].any()
    assert "ïve 😀 woman"[6:11] == "woman" and LONG[360:] == "woman" and LONG[2:5] == "dog"


def test_the_words_are_the_tokens_that_overlap_the_span(weights):
    tokens = encoder_of("minilm", weights, length=38)(["a woman in a mask, coats", "dog"])
    assert tokens.offsets[0][:10] == [(0, 0), (0, 1), (2, 7), (8, 10), (11, 12), (13, 17), (17, 18), (19, 23), (23, 24), (0, 0)]
    words = words_of(tokens, [[(2, 7), (19, 24), (22, 24), (2, 17), None, (7, 8)], [(0, 3)]], 3)
    assert words.shape == (2, 6, 3, 32)
    rows = tokens.embeddings[0]
    zero = torch.zeros(32)
    expected = [[rows[2], zero, zero], [rows[7], rows[8], zero], [rows[7], rows[8], zero], [rows[2], rows[3], rows[4]]]
    for n, row in enumerate([*expected, [zero] * 3, [zero] * 3]):  # a word; two tokens; cut into; cropped; unbound; a blank
        assert torch.equal(words[0, n], torch.stack(row)), n
    assert torch.equal(words[1, 0, 0], tokens.embeddings[1, 1]) and not words[1, 1:].any()


def test_no_spans_are_no_words():
    tokens = TextTokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), [[(0, 1)] * 3] * 2)
    assert words_of(tokens, [[], []], 5).shape == (2, 0, 5, 4)


def test_a_word_depends_on_its_prompt(weights):
    encoder = encoder_of("minilm", weights, length=38)
    tokens = encoder(["the woman", "a dog"]), encoder(["the woman", "the dog"])
    assert torch.equal(*(words_of(t, [[(4, 9)], []], 1) for t in tokens))
    assert not torch.allclose(words_of(tokens[0], [[], [(2, 5)]], 1), words_of(tokens[1], [[], [(4, 7)]], 1))


def test_minilm_of_the_store_is_encoded_as_transformers_does():
    from transformers import AutoModel, AutoTokenizer

    encoder = text_encoder("minilm", "cpu", *store.folder_of("minilm", None))
    assert (encoder.dim, encoder.length) == (384, LENGTHS["minilm"])
    tokens = encoder(["A woman wearing a green-capped hat.", ""])
    folder = store.path("minilm")
    ids = AutoTokenizer.from_pretrained(folder)(["A woman wearing a green-capped hat."], return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**ids).last_hidden_state[0]
    torch.testing.assert_close(tokens.embeddings[0, : len(expected)], expected, atol=2e-5, rtol=1e-4)
    words = words_of(tokens, [[(2, 7), (18, 34)], []], 8)
    assert (words[0, 0] != 0).any(1).sum() == 1 and (words[0, 1] != 0).any(1).sum() == 4  # green - capped hat


PARITY = {"dinov2": IMAGENET, "clip": OPENAI, "mae": IMAGENET}


def library(name: str, folder: Path, pixels: Tensor) -> Tensor:
    """What transformers gives for normalised pixels, asked for it in the plainest way."""
    from transformers import CLIPModel, Dinov2Model, ViTMAEForPreTraining

    with torch.no_grad():
        if name == "dinov2":
            return Dinov2Model.from_pretrained(folder)(pixels).last_hidden_state[:, 1:]
        if name == "clip":
            vision = CLIPModel.from_pretrained(folder).vision_model
            kept: list[Tensor] = []
            vision.encoder.layers[-2].register_forward_hook(lambda *a: kept.append(a[2] if torch.is_tensor(a[2]) else a[2][0]))
            vision(pixels)
            return kept[0][:, 1:]
        network = ViTMAEForPreTraining.from_pretrained(folder, mask_ratio=0.0).vit
        found = network(pixels)  # shuffled by chance; ids_restore undoes it
        order = found.ids_restore[..., None].expand(-1, -1, found.last_hidden_state.shape[-1])
        return found.last_hidden_state[:, 1:].gather(1, order)


@pytest.mark.parametrize("name", PARITY)
def test_image_tokens_are_the_librarys_own(name, weights):
    encoder = image_encoder(name, "cpu", str(weights / name))
    pictures = torch.rand(2, 3, encoder.side, encoder.side, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v)[:, None, None] for v in PARITY[name])
    found = encoder(pictures)
    assert found.shape == (2, encoder.tokens, encoder.dim) and encoder.tokens == (256 if name == "dinov2" else 16)
    torch.testing.assert_close(found, library(name, weights / name, (pictures - mean) / std), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1:], encoder(pictures[1:]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PARITY)
def test_the_constants_are_the_librarys(name):
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    library = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if name == "clip" else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert [list(v) for v in PARITY[name]] == [list(v) for v in library]


def test_clip_takes_the_second_to_last_block_not_the_last(weights):
    from transformers import CLIPModel

    encoder = image_encoder("clip", "cpu", str(weights / "clip"))
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        last = CLIPModel.from_pretrained(weights / "clip").vision_model(pixels).last_hidden_state[:, 1:]
    mean, std = (torch.tensor(v)[:, None, None] for v in OPENAI)
    assert not torch.allclose(encoder(pixels * std + mean), last, atol=1e-2)


def test_patches_are_an_orthonormal_transform_and_know_their_place():
    encoder = image_encoder("patches", "cpu")
    assert (encoder.side, encoder.tokens, encoder.dim) == (64, 64, 208)
    pictures = torch.rand(2, 3, 64, 64, dtype=torch.float64).float()
    tokens = encoder(pictures)
    rows = encoder._network.rows.double()
    back = tokens[..., :192].double() @ torch.linalg.inv(rows).T  # patch → 3×8×8
    patches = (pictures * 2 - 1).unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 64, 192)
    torch.testing.assert_close(back.float(), patches, atol=1e-4, rtol=1e-4)
    lengths = rows.norm(dim=1)
    torch.testing.assert_close(
        (rows / lengths[:, None]) @ (rows / lengths[:, None]).T, torch.eye(192).double(), atol=1e-6, rtol=0
    )
    place = tokens[0, :, 192:].reshape(8, 8, 16)
    assert place[3, 5].nonzero().flatten().tolist() == [3, 8 + 5]


def test_patches_of_a_real_frame_have_roughly_unit_variance():
    from tests.models.frames import frames

    pictures = frames(1, 64, 64)[:, 0].float() / 255
    numbers = image_encoder("patches", "cpu")(pictures)[..., :192]
    assert 0.5 < numbers.pow(2).mean().sqrt() < 2 and 0.5 < numbers[..., 0].pow(2).mean().sqrt() < 2


@pytest.mark.parametrize("name", ["patches", "dinov2", "clip", "mae"])
def test_encoders_are_frozen_and_leave_autocast_outside(name, weights):
    encoder = image_encoder(name, "cpu", str(weights / name))
    pictures = torch.rand(1, 3, encoder.side, encoder.side)
    plain = encoder(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder(pictures)
    assert plain.dtype == inside.dtype == torch.float32 and not plain.requires_grad and torch.equal(plain, inside)


def test_the_dtype_is_the_networks_own_and_part_of_the_identity(weights):
    folder = str(weights / "dinov2")
    full, half = image_encoder("dinov2", "cpu", folder), image_encoder("dinov2", "cpu", folder, dtype=torch.bfloat16)
    pictures = torch.rand(1, 3, 224, 224)
    a, b = full(pictures), half(pictures)
    assert b.dtype == torch.float32 and not torch.equal(a, b) and torch.allclose(a, b, atol=0.3)
    assert full.identity != half.identity and full.identity == image_encoder("dinov2", "cpu", folder).identity
    lengths = [text_encoder("minilm", "cpu", str(weights / "minilm"), length=n).identity for n in (20, 30)]
    assert lengths[0] != lengths[1]


def test_what_the_folder_does_not_hold_is_said_in_one_line(weights, tmp_path):
    for call, message in {
        (lambda: image_encoder("dinov2", "cpu", str(weights / "mae")), "holds a 'vit_mae' network"),
        (lambda: image_encoder("dinov2", "cpu", str(tmp_path / "none")), "cannot be loaded"),
        (lambda: image_encoder("dinov2", "cpu", str(tmp_path)), "config.json"),
        (lambda: image_encoder("dino", "cpu"), "no image encoder 'dino'; known: patches"),
        (lambda: text_encoder("bert", "cpu"), "no text encoder 'bert'; known: minilm"),
        (lambda: text_encoder("minilm", "cpu", str(weights / "minilm"), length=41), "40 positions"),
        (lambda: image_encoder("patches", "cpu")(torch.zeros(1, 3, 32, 32)), r"\[M,3,64,64\]"),
    }:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_drawn_at_random(weights, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(weights / "dinov2", tmp_path / "part")
    kept = {key: value for key, value in load_file(folder / "model.safetensors").items() if not key.startswith("layernorm")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 2 weights of Dinov2Model, layernorm.bias"):
        image_encoder("dinov2", "cpu", str(folder))


def test_mae_is_read_from_the_pickled_file_that_is_published(weights, tmp_path):
    import shutil

    from safetensors.torch import load_file

    folder = shutil.copytree(weights / "mae", tmp_path / "mae")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    pictures = torch.rand(1, 3, 32, 32)
    assert torch.equal(*(image_encoder("mae", "cpu", str(f))(pictures) for f in (folder, weights / "mae")))


def test_fit_keeps_the_aspect_and_centres_on_white():
    tall = torch.zeros(3, 90, 30)
    tall[0] = 1  # red
    wide = torch.zeros(4, 10, 40)  # black, its left half transparent
    wide[3, :, 20:] = 1
    squares = fit([tall, wide, torch.full((3, 1, 1), 0.25)], 60)
    assert squares.shape == (3, 3, 60, 60) and squares.min() >= 0 and squares.max() <= 1
    assert (squares[0, 1] == 0).any(0).nonzero().flatten().tolist() == list(range(20, 40))
    assert (squares[0][:, :, :20] == 1).all() and (squares[0][:, :, 40:] == 1).all() and (squares[0, 0] > 0.999).all()
    rows = (squares[1, 0] < 0.5).any(1).nonzero().flatten().tolist()
    assert rows == list(range(22, 37)) and (squares[1][:, 22:37, 35:] < 0.01).all() and (squares[1][:, :, :25] > 0.99).all()
    assert (squares[2] == 0.25).all()
    assert fit([], 32).shape == (0, 3, 32, 32)


def test_fit_is_antialiased():
    stripes = (torch.arange(512) % 2).float().expand(3, 512, 512)
    square = fit([stripes], 64)[0]
    assert (square[:, 4:-4, 4:-4] - 0.5).abs().max() < 0.05
