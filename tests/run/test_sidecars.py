"""Whole runs that write sidecars: the input's names, keys and order, and the same bytes however they came to be."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from curation import ledger
from curation.inputs.files import InputError
from curation.inputs.open import open_input
from curation.media import resample
from curation.models.codecs import codec, pixels
from curation.recipe import RecipeError
from curation.run import plan, run
from curation.run.plan import PlanError
from curation.shards import repair
from curation.shards.clip import published
from curation.shards.sidecar import open_latents, open_text
from curation.shards.verify import Damage, verify
from curation.storage import Storage
from curation.trainer import config
from tests import videos
from tests.runs import begin
from tests.shards import finished
from tests.tiny import encoders as tiny

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, one_thread) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return finished.recipe(folder, tiny.minilm(folder / "minilm"))


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory) -> Path:
    """A finished run in `main` and its sidecars in `side`."""
    folder = tmp_path_factory.mktemp("whole")
    finished.main(folder / "main")
    finished.encode(recipe, folder / "main", folder / "side")
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """The same sidecars, to break."""
    return Path(shutil.copytree(whole / "side", tmp_path / "side"))


def tars(out: Path | str) -> dict[str, bytes]:
    storage = Storage.at(out)
    return {name: storage.read(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")}


def keys(out: Path | str) -> dict[str, list[str]]:
    """Keys of each ledger, by stem, in its order."""
    storage = Storage.at(out)
    return {
        name.rpartition("/")[2].removesuffix(".parquet"): ledger.read(storage, name)[0]["key"].to_pylist()
        for name in ledger.files(storage)
    }


def test_each_shard_that_keeps_something_gets_one_of_its_name_and_keys(whole):
    assert keys(whole / "side") == {f"{stem}.latents": found for stem, found in finished.KEPT.items()}
    rows = {row["key"]: row for row in ledger.rows(Storage.at(whole / "side"))}
    assert {key for key, row in rows.items() if row["verdict"] != "kept"} == {"short"}
    assert (rows["short"]["stage"], rows["short"]["reason"]) == ("encode_latents", "too_short")
    for stem, found in finished.KEPT.items():
        order = sorted((rows[key] for key in found if key != "short"), key=lambda row: row["offset"])
        assert [row["key"] for row in order] == [key for key in found if key != "short"]
        assert {row["shard"] for row in order} == {f"{stem}.latents"}
    assert list(verify(Storage.at(whole / "side"), workers=1)) == []
    assert [group["ends"] for group in json.loads((whole / "side/plan/plan.json").read_text())["groups"] if "ends" in group] == [
        [[0, 1], [2, 3]],
        [[0, 0]],
    ]


def test_members_stand_as_their_places_follow_from_their_sizes(whole):
    storage = Storage.at(whole / "side")
    row = next(ledger.rows(storage))
    names = [name for name, _ in ledger.read_sample(storage, row)]
    assert names == ["a0.latents.safetensors", "a0.text.safetensors", "a0.json"]
    one = finished.made.sample("k")
    one.files |= {"depth.safetensors": b"", "text.safetensors": b"", "latents.safetensors": b""}
    assert published(one)[:5] == ["mp4", "latents.safetensors", "text.safetensors", "background.jpg", "depth.safetensors"]


def test_what_is_missing_is_made_again_to_the_same_bytes(whole, recipe, copy):
    for suffix in ("parquet", "tar"):
        (copy / f"shards/shard-00000-0002.latents.{suffix}").unlink()
    before = {path: path.stat().st_mtime_ns for path in (copy / "shards").iterdir()}
    finished.encode(recipe, whole / "main", copy)
    assert tars(copy) == tars(whole / "side") and keys(copy) == keys(whole / "side")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_damaged_one_is_found_and_made_anew(whole, recipe, copy):
    path = copy / "shards/shard-00000-0000.latents.tar"
    path.write_bytes(path.read_bytes()[:-20_000])
    damage = Damage()
    problems = list(verify(Storage.at(copy), workers=1, damage=damage))
    assert problems and all(problem.startswith("shard-00000-0000.latents: ") for problem in problems)
    repair.note(Storage.at(copy), damage.files, damage.groups)
    finished.encode(recipe, whole / "main", copy)
    assert tars(copy) == tars(whole / "side") and list(verify(Storage.at(copy), workers=1)) == []


@pytest.mark.parametrize("done", [0, 1, 2])
def test_planning_goes_on_behind_the_groups_that_are_finished(whole, recipe, copy, done):
    """Group 1 has no clips, and a part nevertheless."""
    wanted = json.loads((copy / "plan/plan.json").read_text())
    (copy / "plan/plan.json").write_text(json.dumps({"made_from": wanted["made_from"], "complete": False}))
    for number in range(done, 3):
        (copy / f"plan/part-{number:05d}.parquet").unlink()
    run.make_plan(str(recipe), str(whole / "main"), str(copy))
    assert json.loads((copy / "plan/plan.json").read_text()) == wanted


@pytest.mark.faults
def test_killed_and_started_again(whole, recipe, tmp_path):
    words = ("run", recipe, "--input", whole / "main", "--output", tmp_path / "out", "--local")
    killed, deadline = begin(*words), time.monotonic() + 60
    while not ledger.files(Storage.at(tmp_path / "out")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished.encode(recipe, whole / "main", tmp_path / "out")
    assert tars(tmp_path / "out") == tars(whole / "side") and keys(tmp_path / "out") == keys(whole / "side")


@pytest.mark.slow
def test_ray_gives_the_bytes_of_a_local_run(whole, recipe, tmp_path, cluster):
    finished.encode(recipe, whole / "main", tmp_path / "ray", local=False, address=cluster.address)
    assert tars(tmp_path / "ray") == tars(whole / "side") and keys(tmp_path / "ray") == keys(whole / "side")


def test_in_a_bucket(whole, recipe, s3):
    source = Storage.at(f"{s3}/main")
    for name in Storage.at(whole / "main").names("shards"):
        source.write(f"shards/{name}", (whole / "main/shards" / name).read_bytes())
    finished.encode(recipe, f"{s3}/main", f"{s3}/side")
    assert {name: len(data) for name, data in tars(f"{s3}/side").items()} == {n: len(d) for n, d in tars(whole / "side").items()}
    assert list(verify(Storage.at(f"{s3}/side"), workers=1)) == []
    there, here = open_latents([f"{s3}/side"]), open_latents([str(whole / "side")])
    assert there is not None and here is not None
    assert there.place(0, "9x96x64", 0)[0] == f"{s3}/side/shards/shard-00000-0000.latents.tar"
    assert there.read(5, "9x96x64", 0).equal(here.read(5, "9x96x64", 0))


def test_retry_makes_what_had_failed(recipe, tmp_path):
    bad = b"\0" * len(finished.made.mp4(30, 24))
    main = finished.main(tmp_path / "main", bad)
    side = finished.encode(recipe, tmp_path / "main", tmp_path / "side")
    assert {row["key"]: row["reason"] for row in ledger.rows(side) if row["verdict"] == "failed"} == {"c": "undecodable"}
    (tmp_path / "good").mkdir()
    good = finished.main(tmp_path / "good")
    for name in good.names("shards"):
        main.write(f"shards/{name}", good.read(f"shards/{name}"))
    assert run.retry(str(tmp_path / "side"), local=True) == 0
    assert keys(tmp_path / "side")["shard-00003-0000.latents"] == ["c"]
    assert list(verify(side, workers=1)) == []
    found, text = open_latents([str(tmp_path / "side")]), open_text([str(tmp_path / "side")])
    assert found is not None and text is not None and found.rows(["c", "short", "d"]).tolist() == [5, -1, 4]
    assert found.read(5, "17x64x64", 0).shape == (64, 5, 8, 8) and text.read(5)[0].shape[1] == 32


def test_what_they_cannot_be_beside_is_one_line(whole, recipe, tmp_path):
    (tmp_path / "in").mkdir()
    videos.write([videos.picture(n) for n in range(5)], tmp_path / "in" / "v.mp4")
    (tmp_path / "in" / "v.txt").write_text("A man talks.")
    with pytest.raises(PlanError, match="beside finished shards, .*; .*v.mp4 is none of them"):
        run.make_plan(str(recipe), str(tmp_path / "in"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="holds sidecars; name the run"):
        run.make_plan(str(recipe), str(whole / "side"), str(tmp_path / "out2"))
    (tmp_path / "r.yaml").write_text("clips: [split_shots: {}]\nshards: {sidecar: video}")
    with pytest.raises(RecipeError, match="split_shots writes the clips' videos, which are in the shards"):
        run.make_plan(str(tmp_path / "r.yaml"), str(whole / "main"), str(tmp_path / "out3"))


def test_of_one_shard_alone(whole, recipe, tmp_path):
    """As for those that a retry of the run has added since."""
    finished.encode(recipe, whole / "main/shards/shard-00002-0000.tar", tmp_path / "side")
    assert keys(tmp_path / "side") == {"shard-00002-0000.latents": ["d"]}
    both = open_latents([str(whole / "side"), str(tmp_path / "side")])
    assert both is not None and len(both) == 6


def test_beside_the_shards_they_are_none_of_the_runs_own(whole, tmp_path):
    shutil.copytree(whole / "main", tmp_path / "main")
    for path in (whole / "side/shards").iterdir():
        shutil.copy(path, tmp_path / "main/shards")
    main = Storage.at(tmp_path / "main")
    assert keys(tmp_path / "main") == keys(whole / "main")
    assert ledger.newest(main) == ledger.newest(Storage.at(whole / "main"))
    wanted = [s.key for s in open_input(str(whole / "main"))]
    assert [s.key for s in open_input(str(tmp_path / "main"))] == wanted == sum(finished.KEPT.values(), [])
    found = open_latents([str(tmp_path / "main")])
    assert found is not None and len(found) == 6
    assert found.read(0, "9x96x64", 0).shape == (64, 3, 8, 12)


def test_of_the_sample_clips(sample_run, tmp_path):
    """By the recipe that comes along; train-tiny's buckets, rate, codec and encoder."""
    side = finished.encode(Path("encode-tiny"), sample_run, tmp_path / "side")
    assert list(verify(side, workers=1)) == []
    clips = {row["key"]: row for row in ledger.rows(Storage.at(sample_run)) if row["verdict"] == "kept"}
    assert [row["key"] for row in ledger.rows(side)] == list(clips)
    found, text = open_latents([str(tmp_path / "side")]), open_text([str(tmp_path / "side")])
    assert found is not None and text is not None
    recipe = config.load("train-tiny")
    found.check(recipe.encoders.codec + ":64", recipe.data.fps, [bucket.name for bucket in recipe.data.table()])
    for row in range(len(found)):
        clip = clips[found.key(row)]
        mp4 = dict(ledger.read_sample(Storage.at(sample_run), clip))[f"{clip['key']}.mp4"]
        video = torch.from_numpy(resample.clip(mp4, [i / 24 for i in range(9)], 96, 64))
        assert torch.equal(found.read(row, "9x96x64", 0), codec("dct", "cpu").encode(pixels(video[None]))[0])
        embeddings, offsets = text.read(row)
        assert len(embeddings) == len(offsets) and offsets.max() == len(clip["caption"])


def test_no_unit_has_clips_of_two_shards():
    def clip(key: str, path: str) -> plan.Sample:
        return plan.Sample(key, meta={"source": {"path": path, "start": None, "end": None}})

    clips = [clip("a", "1"), clip("b", "2"), clip("c", "2"), clip("d", "2")]
    units = plan.cut_units(clips, plan.Units(clips=2), by_source=True)
    assert [[s.key for s in some] for some in units] == [["a"], ["b", "c", "d"]]
