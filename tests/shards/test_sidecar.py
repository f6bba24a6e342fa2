"""What a loader asks of sidecars: which rows, where the bytes are, what tensors they are, whether they suit its recipe."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation import ledger
from curation.ledger import Unit
from curation.shards import pack, sidecar, unit
from curation.shards.sidecar import Latents, SidecarError, Text, open_latents, open_text
from curation.storage import Storage
from tests.shards import finished
from tests.tiny import encoders as tiny

pytestmark = pytest.mark.trainer

ROWS = ["a0", "a1", "a2", "b_s001", "c", "d"]
BUCKET = "9x96x64"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, one_thread) -> Path:
    return tiny.minilm(tmp_path_factory.mktemp("weights") / "minilm")


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    finished.main(folder / "main")
    finished.encode(finished.recipe(folder, weights), folder / "main", folder / "side")
    return folder


@pytest.fixture(scope="module")
def rounded(weights, whole, tmp_path_factory) -> Path:
    """The same in bf16."""
    folder = tmp_path_factory.mktemp("rounded")
    finished.encode(finished.recipe(folder, weights, "bf16"), whole / "main", folder / "side")
    return folder / "side"


def latents(*sources: Path) -> Latents:
    found = open_latents([str(source) for source in sources])
    assert found is not None
    return found


def text(*sources: Path) -> Text:
    found = open_text([str(source) for source in sources])
    assert found is not None
    return found


def members(side: Path, key: str) -> dict[str, bytes]:
    """A sample's, by suffix, read as of any run."""
    storage = Storage.at(side)
    row = next(row for row in ledger.rows(storage) if row["key"] == key)
    return {name.partition(".")[2]: data for name, data in ledger.read_sample(storage, row)}


@pytest.mark.parametrize("kind", [pa.array, lambda keys: pa.chunked_array([keys[:1], keys[1:]]), list])
def test_rows_of_keys(whole, kind):
    for opened in (latents(whole / "side"), text(whole / "side")):
        rows = opened.rows(kind([*ROWS[::-1], "short", "r0", "nobody"]))
        assert rows.tolist() == [5, 4, 3, 2, 1, 0, -1, -1, -1] and rows.dtype == np.int64
        assert [opened.key(row) for row in rows[:6]] == ROWS[::-1] and len(opened) == 6


@pytest.mark.parametrize("exact", [True, False])
def test_one_tensor_is_read_and_nothing_else(whole, rounded, exact):
    side = whole / "side" if exact else rounded
    opened = latents(side)
    for row, key in enumerate(ROWS):
        wanted = sidecar.latents(members(side, key)["latents.safetensors"])
        assert set(opened.names(row)) == wanted.keys()
        for (bucket, first), tensor in wanted.items():
            found = opened.read(row, bucket, first)
            assert torch.equal(found, tensor) and found.dtype == (torch.float32 if exact else torch.bfloat16)
            path, begin, size = opened.place(row, bucket, first)
            data = Path(path).read_bytes()[begin : begin + size]
            assert torch.equal(opened.tensor(data, bucket), tensor) and size == tensor.nbytes
    with pytest.raises(KeyError, match="a0 has no latents 9x96x64@1"):
        opened.place(0, BUCKET, 1)


def test_embeddings_are_read_without_the_latents(whole):
    opened = text(whole / "side")
    for row, key in enumerate(ROWS):
        path, begin, size = opened.place(row)
        data = members(whole / "side", key)["text.safetensors"]
        assert Path(path).read_bytes()[begin : begin + size] == data
        for found, wanted in zip(opened.read(row), sidecar.text(data), strict=True):
            assert torch.equal(found, wanted)


def test_a_sample_whole(whole):
    path, offset, size = latents(whole / "side").sample(4)
    blocks = Path(path).read_bytes()[offset : offset + size]
    assert {n.partition(".")[2]: d for n, d in ledger.read_members(blocks)} == members(whole / "side", "c")


def test_names_of_more_than_a_header_holds(weights, tmp_path):
    key, storage = "k" * 95, Storage.at(tmp_path / "main")
    unit.write(storage, Unit(0, 0), 0, [finished.made.sample(key)], finished.made.OWNERS, finished.made.PROVENANCE, [key])
    pack.pack(storage, 0, 0, [0])
    finished.encode(finished.recipe(tmp_path, weights), tmp_path / "main", tmp_path / "side")
    found = members(tmp_path / "side", key)
    assert torch.equal(latents(tmp_path / "side").read(0, BUCKET, 0), sidecar.latents(found["latents.safetensors"])[BUCKET, 0])
    assert torch.equal(text(tmp_path / "side").read(0)[0], sidecar.text(found["text.safetensors"])[0])


def test_a_recipe_that_wants_others_is_told_so(whole):
    opened, words = latents(whole / "side"), text(whole / "side")
    assert opened.facts == {"codec": "dct:64", "fps": 24.0, "dtype": "fp32", "channels": 64}
    assert opened.buckets == {BUCKET, "17x64x64"} and opened.shape(BUCKET) == (64, 3, 8, 12)
    opened.check("dct:64", 24.0, [BUCKET])
    opened.check()
    words.check(words.facts["encoder"])
    for wanted, said in (
        ({"codec": "dct:48"}, "codec: dct:64, the recipe codec: dct:48"),
        ({"fps": 12.0}, "fps: 24.0, the recipe fps: 12.0"),
        ({"buckets": [BUCKET, "9x64x64"]}, "no latents of the bucket 9x64x64; there are 17x64x64, 9x96x64"),
    ):
        with pytest.raises(SidecarError, match=said):
            opened.check(**wanted)
    with pytest.raises(SidecarError, match="encoder: minilm:.*:40, the recipe encoder: t5"):
        words.check("t5")


def test_several_runs_together(whole, rounded, weights, tmp_path):
    """In other folders, beside one another, or twice the same."""
    with pytest.raises(SidecarError, match="two kinds: dtype fp32 in .*, bf16 in "):
        latents(whole / "side", rounded)
    assert latents(whole / "side", whole / "side").rows(ROWS).tolist() == list(range(6))
    (tmp_path / "half").mkdir()
    for path in (whole / "side/shards").glob("shard-00002*"):
        shutil.copy(path, tmp_path / "half")
    both = latents(tmp_path / "half", whole / "side")
    assert len(both) == 6 and both.rows(["d", "a0"]).tolist() == [0, 1]
    assert both.place(0, BUCKET, 0)[0] == str(tmp_path / "half/shard-00002-0000.latents.tar")
    assert torch.equal(both.read(0, BUCKET, 0), latents(whole / "side").read(5, BUCKET, 0))


def test_what_there_is_not(whole, tmp_path):
    for place in (whole / "main", tmp_path):
        with pytest.raises(SidecarError, match="no sidecars in .*: `curation run encode-latents"):
            open_latents([str(place)])
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "clips: [encode_latents: {codec: dct, buckets: [{frames: 5, width: 32, height: 32}]}]\nshards: {sidecar: z}"
    )
    finished.encode(recipe, whole / "main", tmp_path / "side")
    assert open_text([str(tmp_path / "side")]) is None and len(latents(tmp_path / "side")) == 6


def test_who_failed_later_has_no_latents(whole, weights, tmp_path):
    """Its row says which there were, and its members are gone."""
    from transformers import AutoTokenizer, BertModel

    network = BertModel.from_pretrained(weights)
    (dog,) = AutoTokenizer.from_pretrained(weights)("dog", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        network.embeddings.word_embeddings.weight[dog] = torch.inf
    shutil.copytree(weights, tmp_path / "weights")
    network.save_pretrained(tmp_path / "weights")
    side = finished.encode(finished.recipe(tmp_path, tmp_path / "weights"), whole / "main", tmp_path / "side")
    rows = {row["key"]: row for row in ledger.rows(side)}
    assert rows["a1"]["reason"] == "not_finite" and rows["a1"]["latents"] and rows["a0"]["verdict"] == "kept"
    assert latents(tmp_path / "side").rows(["a0", "a1"]).tolist() == [0, -1]


def test_it_travels_to_workers(whole):
    opened = pickle.loads(pickle.dumps(latents(whole / "side")))
    assert torch.equal(opened.read(1, BUCKET, 0), latents(whole / "side").read(1, BUCKET, 0))
