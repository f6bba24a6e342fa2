"""Examples of the five classes: the same whenever they are made, worn by codecs, and seen ways apart from unseen ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.media.encode import CODECS, worn
from curation.quality import examples, framed, motionless, screens
from curation.stages.score_quality import CLASSES


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Three clips of a disc before a moving ground, uint8 RGB [32, 120, 200, 3]."""
    made = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picture = cv2.resize(rng.integers(0, 255, (30, 50, 3), np.uint8), (400, 240))
        clip = motionless.moved(picture, (200, 120), [(1.4, -0.5 + at / 40, 0.1, 0.0) for at in range(examples.FRAMES)])
        for at, frame in enumerate(clip):
            cv2.circle(frame, (20 + 5 * at, 60), 18, (250, 30 * seed, 20), -1)
        made.append(clip)
    return made


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("label", CLASSES)
def test_same_seed_same_bytes(clips: list[np.ndarray], label: str, unseen: bool) -> None:
    made = [examples.example(examples.seeded("a", label), label, clips, unseen) for _ in range(2)]
    assert np.array_equal(*made) and made[0].dtype == np.uint8 and made[0].shape[0] == examples.FRAMES
    assert made[0].shape[1] % 2 == made[0].shape[2] % 2 == 0 and made[0].shape[3] == 3


def test_seeds_come_from_words() -> None:
    assert examples.seeded("k", 1).random() == examples.seeded("k", 1).random() != examples.seeded("k", 2).random()


def used(monkeypatch: pytest.MonkeyPatch, clips: list[np.ndarray], unseen: bool) -> dict[str, set[str]]:
    """Which ways and codecs examples are made by."""
    found: dict[str, set[str]] = {"ways": set(), "codecs": set()}

    def noted(where: object, name: str) -> None:
        real = getattr(where, name)

        def way(*args: object, **more: object) -> object:
            found["ways"].add(name)
            return real(*args, **more)

        monkeypatch.setattr(where, name, way)

    for name in ("panned", "slides", "parallax", "depth", "turned", "tremble", "resting", "breath", "patch"):
        noted(motionless, name)
    for name in ("inset", "blurred_sides", "template", "split", "standing", "webcam"):
        noted(framed, name)
    monkeypatch.setattr(examples, "SIZES", ((160, 96),))
    monkeypatch.setattr(examples, "worn", lambda clip, codec, loss: found["codecs"].add(codec) or clip)
    monkeypatch.setattr(screens, "recording", lambda rng, pictures, size, count, seconds, unseen: np.stack([pictures[0]] * count))
    for seed in range(16):
        for label in CLASSES[1:4]:
            examples.example(examples.seeded(seed, label), label, clips, unseen)
    return found


def test_what_is_tested_on_is_made_otherwise(monkeypatch: pytest.MonkeyPatch, clips: list[np.ndarray]) -> None:
    with monkeypatch.context() as patch:
        seen = used(patch, clips, False)
    with monkeypatch.context() as patch:
        unseen = used(patch, clips, True)
    assert seen["ways"] >= {"panned", "slides", "tremble", "resting", "inset", "blurred_sides", "template"}
    assert unseen["ways"] >= {"parallax", "depth", "turned", "breath", "patch", "split", "standing", "webcam"}
    assert seen["ways"] & unseen["ways"] <= {"panned", "resting"}, "turned pans are pans, a patch lies on what rests"
    assert not seen["codecs"] & unseen["codecs"] and seen["codecs"] | unseen["codecs"] == set(CODECS)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_wears_more_with_more_loss(clips: list[np.ndarray], codec: str) -> None:
    little, much = (worn(clips[0], codec, loss) for loss in (0.0, 1.0))
    assert little.shape == clips[0].shape and np.array_equal(little, worn(clips[0], codec, 0.0))
    errors = [np.abs(clip.astype(int) - clips[0]).mean() for clip in (little, much)]
    assert 0 < errors[0] < 8 and errors[1] > errors[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_view_is_a_stretch_of_the_clip(clips: list[np.ndarray], seed: int) -> None:
    shown = examples.view(np.random.default_rng(seed), clips[0])
    assert len(shown) == len(clips[0]) and 0.7 * 120 < shown.shape[1] <= 120 and 0.7 * 200 < shown.shape[2] <= 200


def test_the_desirable_may_wear_bars_and_what_is_framed_may_not(clips: list[np.ndarray]) -> None:
    """Bars of one colour are desirable: nobody is to learn that they tell of a frame, nor that they do not."""
    barred = 0
    for seed in range(40):
        clip = examples.dressed(examples.seeded(seed), clips[0].copy(), bars=True)
        flat = [clip[:, 0].std() < 12 and clip[:, -1].std() < 12, clip[:, :, 0].std() < 12 and clip[:, :, -1].std() < 12]
        barred += any(flat)
    assert 2 < barred < 16
