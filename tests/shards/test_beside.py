"""Every kind of damage to a sidecar that verify promises to find; and clips that leave the run it belongs to."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curation import ledger
from curation.media import tensors
from curation.run import run
from curation.shards.beside import members
from curation.shards.check import check_sample
from curation.shards.clip import Clip
from curation.shards.planned import SCHEMA
from curation.shards.sidecar import open_latents
from curation.shards.verify import verify
from curation.storage import Storage
from tests.shards import finished
from tests.tiny import encoders as tiny

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_thread) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    finished.main(folder / "main")
    recipe = finished.recipe(folder, tiny.minilm(folder / "minilm"))
    finished.encode(recipe, folder / "main", folder / "side")
    return folder


@pytest.fixture
def pair(whole, tmp_path) -> Path:
    """A run and its sidecars, to break; the sidecars think that they are of the run beside them."""
    shutil.copytree(whole / "main", tmp_path / "main")
    finished.encode(whole / "sidecars-fp32.yaml", tmp_path / "main", tmp_path / "side")
    (tmp_path / "main/plan").mkdir()
    plan(Storage.at(tmp_path / "main"), list(ledger.rows(Storage.at(tmp_path / "main"))))
    return tmp_path


def plan(storage: Storage, rows: list[dict]) -> None:
    """Of a run that was written by hand."""
    groups = []
    for group in range(3):
        own = [row for row in rows if row["group"] == group]
        planned = [
            {**dict.fromkeys(SCHEMA.names, ""), "start": None, "end": None, "unit": row["unit"], "key": row["clip"]}
            | {"verdict": "kept", "meta": "{}", "source": json.dumps({"clip": row["clip"], "path": None})}
            for row in own
        ]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(planned, schema=SCHEMA), buffer)
        storage.write(f"plan/part-{group:05d}.parquet", buffer.getvalue())
        groups.append({"group": group, "units": 1 + max(row["unit"] for row in own), "clips": len(own), "attempt": 0})
    storage.write("plan/plan.json", json.dumps({"complete": True, "clips": len(rows), "groups": groups}))


def problems(out: Path) -> list[str]:
    return list(verify(Storage.at(out), workers=1))


def sample(out: Path, key: str) -> tuple[Clip, dict[str, bytes]]:
    storage = Storage.at(out)
    row = next(row for row in ledger.rows(storage) if row["key"] == key)
    files = {name.partition(".")[2]: data for name, data in ledger.read_sample(storage, row)}
    return Clip.model_validate_json(files["json"]), files


def test_damaged_tensors_are_named(whole):
    clip, files = sample(whole / "side", "a0")
    assert list(members(clip, files)) == []
    latents = tensors.from_safetensors(files["latents.safetensors"])
    text = tensors.from_safetensors(files["text.safetensors"])
    name = "9x96x64@0"

    def found(suffix: str, made: dict[str, torch.Tensor] | bytes) -> list[str]:
        data = made if isinstance(made, bytes) else tensors.to_safetensors(made)
        return list(members(clip, files | {f"{suffix}.safetensors": data}))

    nan, inf = latents[name].clone(), text["embeddings"].clone()
    nan[3, 1, 2, 2], inf[0, 0] = torch.nan, torch.inf
    assert found("latents", latents | {name: nan}) == ["latents.safetensors: 9x96x64@0 is not finite"]
    files_with = files | {"latents.safetensors": tensors.to_safetensors(latents | {name: nan})}
    assert list(check_sample("a0", files_with)) == found("latents", latents | {name: nan}) and not list(check_sample("a0", files))
    assert found("text", text | {"embeddings": inf}) == ["text.safetensors: embeddings is not finite"]
    turned = found("latents", latents | {name: latents[name].reshape(64, 3, 12, 8)})
    assert turned == ["latents.safetensors: 9x96x64@0 is [64, 3, 12, 8] of torch.float32, not [64, 3, 8, 12] of torch.float32"]
    (flat,) = found("text", text | {"embeddings": text["embeddings"].reshape(32, -1)})
    assert flat.startswith("text.safetensors: embeddings is [32, ")
    (kind,) = found("text", text | {"offsets": text["offsets"].float()})
    assert kind.endswith("of torch.int32")
    for suffix, less in (("latents", {name: latents[name]}), ("text", {"embeddings": text["embeddings"]})):
        assert found(suffix, less) == [
            f"{suffix}.safetensors: names and {'places' if suffix == 'latents' else 'size'} are not what the metadata say"
        ]
    assert found("text", b"none")[0].startswith("text.safetensors does not load: ")


def test_a_flipped_byte_is_found(pair):
    opened = open_latents([str(pair / "side")])
    assert opened is not None and problems(pair / "side") == []
    path, begin, _ = opened.place(4, "9x96x64", 0)
    data = bytearray(Path(path).read_bytes())
    data[begin + 100] ^= 1
    Path(path).write_bytes(data)
    (problem,) = problems(pair / "side")
    assert problem == "shard-00000-0002.latents: c: its bytes are not those that were written (CRC-32)"


def test_a_clip_that_left_the_run_is_to_be_forgotten_here_too(pair):
    assert run.forget(str(pair / "main"), ["b"]).clips == 1
    shard = pair / "main/shards/shard-00000-0002.tar"
    assert problems(pair / "side") == [
        f"shard-00000-0002.latents: b_s001 is not in {shard} any more: `curation forget` it here, too"
    ]
    found = run.forget(str(pair / "side"), ["b"])  # by the key of the clip whose shot it is
    assert (found.clips, found.ledgers, found.parts) == (1, 1, 1)
    assert problems(pair / "side") == []
    opened = open_latents([str(pair / "side")])
    assert opened is not None and opened.rows(["b_s001", "c"]).tolist() == [-1, 3]
    assert b"b_s001.latents" not in (pair / "side/shards/shard-00000-0002.latents.tar").read_bytes()
    assert opened.read(3, "17x64x64", 0).shape == (64, 5, 8, 8), "places are right again"


def test_who_is_forgotten_here_alone_is_not_missed(pair):
    run.forget(str(pair / "side"), ["a1"])
    assert problems(pair / "side") == []


def test_sidecars_beside_the_shards_are_forgotten_with_them(pair):
    for path in (pair / "side/shards").iterdir():
        shutil.copy(path, pair / "main/shards")
    found = run.forget(str(pair / "main"), ["b"])
    assert (found.clips, found.ledgers) == (1, 2)
    opened = open_latents([str(pair / "main")])
    assert opened is not None and opened.rows(["b_s001", "c"]).tolist() == [-1, 3]
    assert b"b_s001.latents" not in (pair / "main/shards/shard-00000-0002.latents.tar").read_bytes()
    assert opened.read(3, "17x64x64", 0).shape == (64, 5, 8, 8)


def test_clips_that_came_or_changed_places_are_told(pair):
    side, shards = pair / "side", pair / "main/shards"
    table, facts = ledger.read(Storage.at(pair / "main"), "shards/shard-00000-0000.parquet")

    def write(rows: list[int]) -> list[str]:
        Storage.at(pair / "main").write("shards/shard-00000-0000.parquet", ledger.encoded(table.take(rows), **facts))
        return [problem.partition(": ")[2] for problem in problems(side)]

    assert write([0, 2, 1, 3]) == [f"its clips stand in another order than in {shards}/shard-00000-0000.tar"]
    assert write([0, 1, 2]) == [f"a2 is not in {shards}/shard-00000-0000.tar any more: `curation forget` it here, too"]
    more = table.to_pylist()
    more.append(more[-1] | {"key": "a3"})
    name = "shards/shard-00000-0000.parquet"
    Storage.at(pair / "main").write(name, ledger.encoded(pa.Table.from_pylist(more, schema=ledger.SCHEMA), **facts))
    assert [p.partition(": ")[2] for p in problems(side)] == [f"a3 of {shards}/shard-00000-0000.tar is not here"]


def test_a_run_that_is_away_is_no_problem_of_its_sidecars(pair):
    shutil.rmtree(pair / "main")
    assert problems(pair / "side") == []


def test_of_a_few_clips_alone(whole, tmp_path):
    finished.encode(whole / "sidecars-fp32.yaml", whole / "main", tmp_path / "side", limit=2)
    assert problems(tmp_path / "side") == []
