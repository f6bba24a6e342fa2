"""`curation cutout` on a frame of the sample clips, by the embedded profile's networks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.inputs.files import InputError
from curation.look.cutout import cutout
from curation.trainer import clips

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def photo(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A man in a car."""
    file = tmp_path_factory.mktemp("photo") / "man.jpg"
    file.write_bytes(clips.sample(str(sample_run), "carphone_pristine_00000")["frame1.jpg"])
    return file


def test_a_photo_becomes_a_reference(photo, tmp_path):
    (file,) = cutout(photo, "man", tmp_path / "man.png")
    made, whole = cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.imread(str(photo))
    assert made.shape[2] == 4 and set(np.unique(made[..., 3])) == {0, 255}
    assert 0.3 < (made[..., 3] > 0).mean() < 0.95
    x, y = place(made, whole)
    assert (whole[y : y + made.shape[0], x : x + made.shape[1]] == made[..., :3]).all(), "its pixels are the photo's"


def place(cut: np.ndarray, photo: np.ndarray) -> tuple[int, int]:
    """x and y at which a cut-out's pixels stand in a photo."""
    found = cv2.matchTemplate(photo, np.ascontiguousarray(cut[..., :3]), cv2.TM_SQDIFF_NORMED)
    assert found.min() < 1e-5
    return cv2.minMaxLoc(found)[2]


def test_of_several_all_or_none(photo, tmp_path):
    """The photo beside its mirror image: two men."""
    image = cv2.imread(str(photo))
    cv2.imwrite(str(tmp_path / "two.png"), np.concatenate([image, image[:, ::-1]], 1))
    with pytest.raises(InputError, match="ambiguous: 'man' might as well mean another one; --all") as caught:
        cutout(tmp_path / "two.png", "man", tmp_path / "man.png")
    assert "\n" not in str(caught.value)
    files = cutout(tmp_path / "two.png", "man", tmp_path / "man.png", every=True)
    assert [file.name for file in files] == ["man-1.png", "man-2.png"]
    left, right = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files)
    two = cv2.imread(str(tmp_path / "two.png"))
    assert place(left, two)[0] < image.shape[1] / 2 < place(right, two)[0] + right.shape[1] / 2, "from left to right"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("unicorn", "no 'unicorn': not_localised (its detector has no class for that word"),
        ("elephant", "no 'elephant': not_localised"),
        (" ", "what is to be cut out"),
    ],
)
def test_what_is_not_there_is_refused_with_the_stages_reason(photo, tmp_path, word, said):
    with pytest.raises(InputError) as caught:
        cutout(photo, word, tmp_path / "x.png")
    assert said in str(caught.value) and not list(tmp_path.iterdir())


def test_a_poor_mask_is_refused_with_its_reason(photo, tmp_path):
    (tmp_path / "strict.yaml").write_text(
        "plan: [extract_entities]\nclips: [split_shots, sample_frames, {segment_entities: {max_area: 0.01}}]"
    )
    with pytest.raises(InputError, match="no 'man': too_large"):
        cutout(photo, "man", tmp_path / "man.png", recipe=str(tmp_path / "strict.yaml"))


def test_what_is_no_photo_no_name_no_recipe(photo, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "bare.yaml").write_text("clips: [split_shots]")
    for picture, name, recipe, said in [
        (tmp_path / "text.jpg", "a.png", "embedded", "no picture"),
        (tmp_path / "none.jpg", "a.png", "embedded", "No such file"),
        (photo, "a.jpg", "embedded", "ends in .png"),
        (photo, "a.png", str(tmp_path / "bare.yaml"), "no segment_entities"),
    ]:
        with pytest.raises(InputError, match=said):
            cutout(picture, "man", tmp_path / name, recipe=recipe)
