"""Every kind of damage to a sample that verify promises to find, done to one of the embedded stages."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from curation import ledger
from curation.recipe import STAGES
from curation.shards.check import check_sample
from curation.storage import Storage


@pytest.fixture
def files(sample_run) -> dict[str, bytes]:
    """Members, by suffix, of a clip with refs, faces and a background."""
    storage = Storage.at(sample_run)
    for row in ledger.rows(storage):
        if row["verdict"] == "kept":
            found = {name.partition(".")[2]: data for name, data in ledger.read_sample(storage, row)}
            if any(name.startswith("face") for name in found):
                return found
    raise AssertionError("no sample clip has a face")


def key(files: dict[str, bytes]) -> str:
    return json.loads(files["json"])["key"]


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
        (lambda c: first_ref(c).update(refused="part_only"), "it has a member and is refused"),
        (lambda c: first_ref(c).update(member=None), "it has no member and is not refused"),
        (lambda c: first_ref(c).update(member=None, refused="part_only"), "is in the tar, but not in the metadata"),
        (lambda c: first_ref(c).update(member="ref.9.9.webp"), "ref.9.9.webp is in the metadata, but not in the tar"),
        (lambda c: c["entities"][0].update(refs=[]), "is in the tar, but not in the metadata"),
        (lambda c: c.update(unknown=1), "json: unknown"),
        (lambda c: c["members"].pop("frame0.jpg"), "frame0.jpg is in the tar, but not in the metadata"),
        (lambda c: c["members"].update({"lost.txt": "crop_faces"}), "lost.txt is in the metadata, but not in the tar"),
        (lambda c: c["members"].update({"frame0.jpg": "nobody"}), "frame0.jpg is said to be of nobody"),
        (lambda c: c.update(video=None), "mp4 is in the tar, but not in the metadata"),
    ],
)
def test_metadata_that_does_not_fit(files, change, complaint):
    assert list(check_sample(key(files), files)) == []
    assert any(complaint in p for p in check_sample(key(files), edit(files, change), "", STAGES))


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
