from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from curation.models.codecs import codec
from curation.models.encoders import TextTokens, text_encoder, words_of
from curation.trainer.cache import Cache, CachedText
from tests.tiny import encoders as tiny

pytestmark = pytest.mark.trainer

CAPTIONS = ["a woman in a mask", "", "the dog", "a woman in a mask"]


class Counted:
    """A real encoder that counts the captions it is given."""

    def __init__(self, encoder):
        self.encoder, self.seen = encoder, []
        self.dim, self.length, self.identity, self.device = encoder.dim, encoder.length, encoder.identity, encoder.device

    def __call__(self, captions) -> TextTokens:
        self.seen += captions
        return self.encoder(captions)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):
    return text_encoder("minilm", "cpu", str(tiny.minilm(tmp_path_factory.mktemp("weights") / "minilm")), length=20)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_second_pass_asks_nothing_of_the_encoder(encoder, tmp_path):
    plain = encoder(CAPTIONS)
    for seen in (["a woman in a mask", "", "the dog"], []):
        counted = Counted(encoder)
        cached = CachedText(counted, tmp_path)(CAPTIONS)
        assert counted.seen == seen
        assert torch.equal(cached.mask, plain.mask) and cached.offsets == plain.offsets
        torch.testing.assert_close(cached.embeddings, plain.embeddings, atol=1e-6, rtol=1e-5)
    spans = [[(2, 7)], [None], [(4, 7)], [(13, 17)]]
    assert torch.allclose(words_of(cached, spans, 4), words_of(plain, spans, 4), atol=1e-6)


def test_only_what_is_new_is_encoded(encoder, tmp_path):
    CachedText(encoder, tmp_path)(["the dog"])
    counted = Counted(encoder)
    CachedText(counted, tmp_path)(["a coat", "the dog", "a mask"])
    assert counted.seen == ["a coat", "a mask"]


def test_another_encoder_has_another_cache(encoder, tmp_path):
    CachedText(encoder, tmp_path)(["the dog"])
    counted = Counted(encoder)
    counted.identity += "!"
    CachedText(counted, tmp_path)(["the dog"])
    assert counted.seen == ["the dog"]
    assert sorted(p.name for p in tmp_path.rglob("facts.json")) == ["facts.json"] * 2


def test_latents_come_back_bit_for_bit(tmp_path):
    cosines = codec("dct", "cpu")
    cache = Cache(tmp_path, {"codec": cosines.identity})
    video = torch.rand(3, 3, 5, 16, 16) * 2 - 1
    keys = [f"clip{i} 5x16x16 0" for i in range(3)]
    asked: list[list[int]] = []

    def make(missing: list[int]):
        asked.append(missing)
        return [{"latents": latents} for latents in cosines.encode(video[missing])]

    first = cache.get_or_make(keys[:2], make)
    second = cache.get_or_make(keys, make)
    third = Cache(tmp_path, {"codec": cosines.identity}).get_or_make(keys, make)
    assert asked == [[0, 1], [2]]
    assert torch.equal(torch.stack([e["latents"] for e in third]), torch.stack([e["latents"] for e in second]))
    assert torch.equal(first[1]["latents"], cosines.encode(video[:2])[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.bool])
def test_any_tensor_is_kept(dtype, tmp_path):
    cache = Cache(tmp_path, {})
    entry = {
        "a": torch.arange(6).reshape(2, 3).T.to(dtype),
        "empty": torch.zeros(0, 4, dtype=dtype),
        "scalar": torch.ones((), dtype=dtype),
    }
    cache.put("key", entry)
    found = cache.get("key")
    assert found is not None and found.keys() == entry.keys() and cache.get("other") is None
    assert all(torch.equal(found[name], entry[name]) and found[name].dtype == dtype for name in entry)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "other"])
def test_a_damaged_file_is_made_again(damage, tmp_path):
    cache = Cache(tmp_path, {})
    cache.put("key", {"x": torch.arange(100.0)})
    cache.put("other", {"x": torch.arange(100.0)})
    path = cache._path("key")
    whole = path.read_bytes()
    broken = {
        "flipped": whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:],
        "cut": whole[:-4],
        "empty": b"",
        "text": b"not a tensor" * 20,
        "other": cache._path("other").read_bytes(),
    }
    path.write_bytes(broken[damage])
    assert cache.get("key") is None
    assert torch.equal(cache.get_or_make(["key"], lambda missing: [{"x": torch.arange(100.0)}])[0]["x"], torch.arange(100.0))
    assert path.read_bytes() == whole and cache.get("key") is not None


def test_the_same_entry_is_the_same_bytes(tmp_path):
    entry = {"b": torch.rand(4, 5), "a": torch.arange(3), "c": torch.rand(2).bfloat16()}
    for name in ("one", "two"):
        Cache(tmp_path / name, {"x": 1, "y": 2} if name == "one" else {"y": 2, "x": 1}).put("key", entry)
    assert files(tmp_path / "one") == files(tmp_path / "two") and len(files(tmp_path / "one")) == 2


def _fill(folder: Path) -> None:
    torch.set_num_threads(1)
    cache = Cache(folder, {})
    for n in range(40):
        cache.get_or_make([f"{n}"], lambda missing, n=n: [{"x": torch.full((1000,), float(n))}])


def test_several_processes_share_a_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    cache = Cache(tmp_path, {})
    for n in range(40):
        found = cache.get(f"{n}")
        assert found is not None and (found["x"] == n).all()
    assert not [name for name in files(tmp_path) if name.endswith(".tmp")] and len(files(tmp_path)) == 41
