"""Every kind of damage that verify promises to find, done to a real run of the embedded stages on the sample clips."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import shards
from curation.verify import check_sample, verify


@pytest.fixture
def damaged(sample_run, tmp_path):
    """A copy to break."""
    shutil.copytree(sample_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def files(sample_run) -> dict[str, bytes]:
    """Members, by suffix, of a clip with refs, faces and a background."""
    for row in shards.ledger(sample_run / "shards", 0):
        if row["status"] == "kept":
            found = {name.partition(".")[2]: data for name, data in shards.read_sample(sample_run / "shards", row)}
            if any(name.startswith("face") for name in found):
                return found
    raise AssertionError("no sample clip has a face")


def key(files: dict[str, bytes]) -> str:
    return json.loads(files["json"])["key"]


def test_the_sample_run_is_sound(sample_run):
    assert list(verify(sample_run)) == []


def edit(files: dict[str, bytes], change) -> dict[str, bytes]:
    clip = json.loads(files["json"])
    change(clip)
    return {**files, "json": json.dumps(clip).encode()}


def first_ref(clip: dict) -> dict:
    return next(ref for entity in clip["entities"] for ref in entity["refs"])


def encoded(image: np.ndarray, kind: str) -> bytes:
    return cv2.imencode(kind, image)[1].tobytes()


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda c: c.update(key="other"), "key is other"),
        (lambda c: c.pop("caption"), "json: caption: Field required"),
        (lambda c: c["video"].update(frames=7), "the metadata says 7"),
        (lambda c: c["video"].update(width=10), "the metadata says 10"),
        (lambda c: c["entities"][0].update(span=[1, 3]), "its span holds"),
        (lambda c: first_ref(c).update(box=[0, 0, 2, 2]), "the mask leaves its box"),
        (lambda c: first_ref(c).update(box=[5, 5, 5, 9]), "empty or leaves the frame"),
        (lambda c: first_ref(c)["mask"].update(size=[10, 10]), "the mask is [10, 10]"),
        (lambda c: first_ref(c).update(member="ref.9.9.webp"), "ref.9.9.webp is in the metadata, but not in the tar"),
        (lambda c: c["entities"][0].update(refs=[]), "is in the tar, but not in the metadata"),
        (lambda c: c.update(unknown=1), "json: unknown"),
    ],
)
def test_metadata_that_does_not_fit(files, change, complaint):
    assert list(check_sample(key(files), files)) == []
    assert any(complaint in p for p in check_sample(key(files), edit(files, change)))


def test_members_that_do_not_fit(files):
    ref = next(name for name in files if name.startswith("ref"))
    picture = cv2.imdecode(np.frombuffer(files[ref], np.uint8), cv2.IMREAD_UNCHANGED)
    face = next(name for name in files if name.startswith("face"))
    for change, complaint in [
        ({ref: encoded(picture[:-1], ".png")}, f"{ref} is "),
        ({ref: encoded(np.dstack([picture[..., :3], 255 - picture[..., 3:]]), ".png")}, f"the alpha of {ref} is not the mask"),
        ({face: b"no picture"}, f"{face} does not decode"),
        ({"mp4": files["mp4"][:2000]}, "mp4: "),
        ({"frame0.jpg": encoded(np.zeros((8, 8, 3), np.uint8), ".jpg")}, "frame0.jpg is 8×8"),
        ({"extra.txt": b"x"}, "extra.txt is in the tar, but not in the metadata"),
    ]:
        assert any(complaint in p for p in check_sample(key(files), {**files, **change})), complaint


def test_a_missing_member_an_extra_sample_and_a_moved_one(damaged):
    tar = damaged / "shards" / "shard-000000.tar"
    with tarfile.open(tar) as old:
        members = [(m.name, old.extractfile(m).read()) for m in old]
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as new:
        for name, data in [("stranger.mp4", b"x"), *members[:-1]]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    problems = " ".join(verify(damaged))
    assert "stranger is in the tar, not kept in the ledger" in problems
    assert "offset and size in the ledger do not cover the sample" in problems
    assert f"{members[-1][0].partition('.')[2]} is in the metadata, but not in the tar" in problems


DROPPED = {"status": "rejected", "stage": "x", "reason": "y"}


def rewrite(out: Path, change) -> None:
    path = out / "shards" / "shard-000000.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=shards.LEDGER), path)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda rows: rows.pop(0), "is planned but in no ledger row"),
        (lambda rows: rows.append({**rows[0], "clip": "new", "key": "new"}), "clip new is in the ledger but not planned"),
        (lambda rows: rows.append(rows[0]), "stands twice"),
        (lambda rows: rows[0].update(status="lost"), "verdict 'lost'"),
        (lambda rows: next(r for r in rows if r["status"] == "kept").update(DROPPED), "not kept in the ledger"),
    ],
)
def test_a_ledger_that_does_not_fit(damaged, change, complaint):
    rewrite(damaged, change)
    assert any(complaint in p for p in verify(damaged))


def test_damage_to_whole_files(damaged):
    tar = damaged / "shards" / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:100_000])
    assert any("shard-000000" in p for p in verify(damaged))
    tar.unlink()
    assert any("cannot be read: FileNotFoundError" in p for p in verify(damaged))
    (damaged / "shards" / "shard-000000.parquet").unlink()
    assert list(verify(damaged)) == ["unit 0: not run yet"]
    shutil.rmtree(damaged / "plan")
    assert "no finished plan" in next(verify(damaged))


def test_another_recipes_shard(damaged):
    state = json.loads((damaged / "run.json").read_text())
    state["recipe"]["clips"]["split_shots"]["crf"] = 40
    (damaged / "run.json").write_text(json.dumps(state))
    assert any("made by recipe" in p for p in verify(damaged))
