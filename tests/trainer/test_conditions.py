from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from curation.models.encoders import image_encoder, text_encoder
from curation.trainer.batch import Reference
from curation.trainer.conditions import Conditioner
from tests.tiny import encoders as tiny

pytestmark = pytest.mark.trainer

CAPTIONS = ["a dog and a woman in a coat", "the green bottle"]


def picture(red: int, height: int = 30, width: int = 20) -> torch.Tensor:
    return torch.tensor([red, 80, 90], dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)


def reference(caption: str, word: str, red: int) -> Reference:
    return Reference(picture(red), word, (caption.index(word), caption.index(word) + len(word)), "subject")


REFERENCES = [
    [reference(CAPTIONS[0], "woman", 10), reference(CAPTIONS[0], "dog", 200)],
    [Reference(picture(90, 10, 40), "", None, "background")],
]


@pytest.fixture(scope="module")
def conditioner(tmp_path_factory) -> Conditioner:
    text = text_encoder("minilm", "cpu", folder=str(tiny.minilm(Path(tmp_path_factory.mktemp("text")) / "minilm")), length=20)
    encoders = SimpleNamespace(text=text, image=image_encoder("patches", "cpu"), text_length=20)
    return Conditioner(encoders, slots=3, words=2)


def test_each_image_stands_in_its_slot_with_its_word(conditioner):
    found = conditioner(CAPTIONS, REFERENCES)
    assert found.slots.tolist() == [[True, True, False], [True, False, False]]
    assert found.images.shape == (2, 3, 64, 208) and found.words.shape == (2, 3, 2, 32)
    tokens = conditioner.encoders.text(CAPTIONS)
    at = {word: next(i for i, (a, b) in enumerate(tokens.offsets[0]) if CAPTIONS[0][a:b] == word) for word in ("woman", "dog")}
    assert torch.equal(found.words[0, 0, 0], tokens.embeddings[0, at["woman"]])
    assert torch.equal(found.words[0, 1, 0], tokens.embeddings[0, at["dog"]])
    assert not found.words[0, :, 1].any(), "one token each: the second is padding"
    assert not found.words[1].any() and not found.images[1, 1:].any(), "bound to no word; empty slots"
    assert not torch.equal(found.images[0, 0], found.images[0, 1])


def test_more_references_than_slots_are_cut(conditioner):
    assert conditioner(CAPTIONS[:1], [REFERENCES[0] * 3]).slots.sum() == 3


def test_no_references_at_all(conditioner):
    found = conditioner(CAPTIONS, [[], []])
    assert not found.slots.any() and not found.images.any() and found.words.shape == (2, 3, 2, 32)


def test_without_drops_what_is_named_and_nothing_else(conditioner):
    found = conditioner(CAPTIONS, REFERENCES)
    dropped = found.without(text=torch.tensor([True, False]), images=torch.tensor([False, True]))
    assert not dropped.text[0].any() and not dropped.text_mask[0].any() and not dropped.words[0].any()
    assert torch.equal(dropped.images[0], found.images[0]) and torch.equal(dropped.slots[0], found.slots[0])
    assert torch.equal(dropped.text[1], found.text[1]) and torch.equal(dropped.text_mask[1], found.text_mask[1])
    assert not dropped.images[1].any() and not dropped.slots[1].any()
    assert all(torch.equal(value, getattr(found, name)) for name, value in found.without().keywords(cut=False).items())


def test_arguments_are_cut_to_what_is_there(conditioner):
    found = conditioner(CAPTIONS, REFERENCES)
    longest = int(found.text_mask.sum(1).max())
    told = found.keywords()
    assert told["text"].shape[1] == longest < 20 and told["images"].shape[1] == told["words"].shape[1] == 2
    assert told["text_mask"].shape == (2, longest) and told["slots"].tolist() == [[True, True], [True, False]]
    alone = conditioner(CAPTIONS[:1], REFERENCES[:1]).keywords()
    assert alone["text_mask"] is None and alone["slots"] is None, "nothing to hide"
    nothing = found.without(text=True, images=True).keywords()
    assert not nothing["text_mask"].any() and nothing["text"].shape[1] == 1 and nothing["slots"].shape == (2, 1)


def test_captions_that_were_encoded_before_condition_alike(conditioner):
    tokens = conditioner.encoders.text(CAPTIONS)
    counts = tokens.mask.sum(1).tolist()
    encoded = [(tokens.embeddings[i, :n], torch.tensor(tokens.offsets[i][:n])) for i, n in enumerate(counts)]
    one, other = conditioner(CAPTIONS, REFERENCES), conditioner(["", ""], REFERENCES, encoded=encoded)
    assert one.null is other.null is None
    assert all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items() if value is not None)
