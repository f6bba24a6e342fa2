from __future__ import annotations

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from curation.models.nanodet import NanoDet
from curation.sample import Sample
from curation.stage import apply
from curation.stages.inpaint_background import InpaintBackground
from curation.stages.removal import PROTOCOL, boxes_mask, leak_score, parts, prompt, seed, with_neighbours
from curation.store import store
from tests import tiny

NAME = "inpaint_background"
HEIGHT, WIDTH = 360, 640


@cache
def loaded(**knobs: Any) -> InpaintBackground:
    stage = InpaintBackground(**knobs)
    stage.load()
    return stage


def scenery(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed)
    layers = [
        cv2.resize(noise.normal(size=(360 // s, 640 // s, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for s in (6, 20, 60)
    ]
    return np.clip(128 + 12 * layers[0] + 16 * layers[1] + 16 * layers[2], 0, 255).astype(np.uint8)


@cache
def man() -> np.ndarray:
    """A real man, 132×147, head and shoulders, cut out of the carphone video."""
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        frame = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40]
    return frame[12:144, 25:172]


def with_man(scene: np.ndarray, left: int, top: int = 120) -> np.ndarray:
    image = scene.copy()
    image[top : top + 132, left : left + 147] = man()
    return image


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def reference(mask: np.ndarray, frame: int = 1, label: str = "person") -> dict[str, Any]:
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    return {"frame": frame, "label": label, "box": box, "mask": {"size": code["size"], "counts": code["counts"].decode()}}


def make(middle: np.ndarray, window: list[np.ndarray], *entities: dict[str, Any], kind: str = "subject") -> Sample:
    files = {"frame1.jpg": jpeg(middle)} | {f"_window.{i:02d}.jpg": jpeg(image) for i, image in enumerate(window)}
    words = [{"word": "man", "kind": kind, "span": [0, 1]} for _ in entities]
    meta = {"extract_entities": {"entities": words}, "segment_entities": {"entities": list(entities)}}
    return Sample("clip", files, meta)


def walk(left: int = 250, speed: int = 45, scale: int = 1) -> Sample:
    """A man who walks past a scene; frame 1 is `scale` times as large as the window."""
    scene = scenery()
    window = [with_man(scene, min(480, max(0, left + speed * step))) for step in range(-5, 6)]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[120:252, left : left + 147] = 1
    size = (WIDTH * scale, HEIGHT * scale)
    middle = cv2.resize(with_man(scene, left), size, interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return make(middle, window, {"refs": [reference(large)]})


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


def run(sample: Sample, **knobs: Any) -> tuple[Sample, dict[str, Any]]:
    sample = apply(loaded(**knobs), [sample])[0]
    assert sample.verdict.status != "failed", sample.verdict.reason
    return sample, json.loads(json.dumps(sample.meta[NAME]))


@pytest.mark.parametrize(("scale", "least"), [(1, 30), (2, 27)])
def test_a_man_who_walks_is_replaced_by_what_is_behind_him(scale: int, least: float) -> None:
    sample, meta = run(walk(scale=scale))
    assert meta["method"].startswith("plate") and meta["member"] == "background.jpg" and meta["reason"] is None
    assert meta["coverage"] > 0.9 and meta["invented"] < 0.02 and meta["frames"] >= 6
    truth = cv2.resize(scenery(), (WIDTH * scale, HEIGHT * scale), interpolation=cv2.INTER_CUBIC)
    place = np.s_[120 * scale : 252 * scale, 250 * scale : 397 * scale]
    result = decode(sample.files["background.jpg"])
    assert result.shape == truth.shape
    assert psnr(result[place], truth[place]) > least


def test_outside_the_hole_nothing_changes() -> None:
    sample = walk(scale=2)
    frame = decode(sample.files["frame1.jpg"])
    result = decode(run(sample)[0].files["background.jpg"])
    outside = ~boxes_mask([(460, 200, 834, 560)], frame.shape, grow=0)  # hole, and the JPEG blocks that touch it
    assert (result[outside] == decode(jpeg(frame))[outside]).all()


def test_a_man_who_stands_still_is_painted_over_by_patchmatch() -> None:
    sample, meta = run(walk(speed=0))
    assert meta["method"] == "patchmatch" and meta["coverage"] == 0 and meta["invented"] == meta["hole"]
    patch = decode(sample.files["background.jpg"])[120:252, 250:397].astype(float)
    texture = scenery()[120:252, 250:397].astype(float)
    assert np.abs(patch.mean((0, 1)) - texture.mean((0, 1))).max() < 20
    assert 0.5 < patch.std() / texture.std() < 1.5


def blind(sample: Sample, **knobs: Any) -> tuple[Sample, dict[str, Any]]:
    """A detector that misses the man in every other frame, and no look at colours: only the second look at the result is left."""
    return run(sample, hide_score=0.99, max_likeness=1.0, **knobs)


def ghost() -> Sample:
    """He stands 80 px further on in all other frames, and the hole reaches that far: a plate would show him there."""
    sample, scene = walk(speed=0), scenery()
    for name in [name for name in sample.files if name.startswith("_window.")]:
        sample.files[name] = jpeg(with_man(scene, 330, top=130))
    wide = boxes_mask([(240, 100, 500, 280)], scene.shape, grow=0)
    sample.meta["segment_entities"]["entities"][0]["refs"] = [reference(wide)]
    return sample


def test_a_plate_that_shows_the_man_again_is_caught_and_patchmatch_takes_over() -> None:
    _, meta = blind(ghost())
    assert meta["coverage"] > 0.3 and meta["leaks"]["plate+patchmatch"] > 0.3
    assert meta["method"] == "patchmatch" and meta["leaks"]["patchmatch"] < 0.2


@pytest.mark.slow
def test_a_leak_with_no_way_out_is_left_out_or_rejected() -> None:
    kept, meta = blind(ghost(), max_invented=0.2)
    assert meta["reason"] == "leaked" and meta["method"] == "none" and meta["member"] is None
    assert kept.alive and "background.jpg" not in kept.files
    rejected, meta = blind(ghost(), max_invented=0.2, on_leak="reject")
    assert rejected.verdict.reason == "background_leaked" and meta["leaks"]["plate+patchmatch"] > 0.3


def target(image: np.ndarray, left: int, top: int = 120) -> np.ndarray:
    """With a thing that has no name among COCO's: rings and bars, 147×132."""
    image = image.copy()
    image[top : top + 132, left : left + 147] = (230, 200, 40)
    for radius, colour in ((60, (20, 40, 160)), (44, (240, 240, 240)), (28, (160, 20, 40)), (12, (20, 20, 20))):
        cv2.circle(image, (left + 73, top + 66), radius, colour, -1)
    image[top : top + 132, left : left + 147 : 14] = 0
    return image


def test_a_thing_the_detector_has_no_name_for_is_caught_by_its_looks() -> None:
    """A plate that shows it again 80 px further on."""
    sample = ghost()
    sample.files["frame1.jpg"] = jpeg(target(scenery(), 250))
    for name in [name for name in sample.files if name.startswith("_window.")]:
        sample.files[name] = jpeg(target(scenery(), 330, top=130))
    _, meta = blind(sample)
    assert meta["coverage"] > 0.3 and meta["leaks"]["plate+patchmatch"] < 0.2 and meta["alike"]["plate+patchmatch"] > 0.8
    assert meta["method"] == "patchmatch" and meta["alike"]["patchmatch"] < 0.7


def test_a_shadow_leaves_with_what_casts_it() -> None:
    grains = np.random.default_rng(0).normal(128, 8, (HEIGHT, WIDTH, 1))
    lawn = np.clip(grains * (0.7, 1, 0.5), 0, 255).astype(np.uint8)
    shadow = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (400, 250), (70, 12), 0, 0, 360, 1, -1).astype(bool)
    bare, mask = with_man(lawn, 250), boxes_mask([(250, 120, 397, 252)], lawn.shape, grow=0)
    shaded = with_man(np.where(shadow[..., None], lawn // 2, lawn).astype(np.uint8), 250)
    results = [run(make(image, [image] * 3, {"refs": [reference(mask)]}), saliency="none") for image in (bare, shaded)]
    assert results[0][1]["shadow"] == 0 and results[1][1]["shadow"] > 0.004
    cast = decode(results[1][0].files["background.jpg"])[shadow & ~mask]
    assert cast.mean() > 0.9 * lawn.mean()


def test_what_the_mask_cuts_off_leaves_with_it() -> None:
    """Only his upper part is in the mask; U²-Net sees that he goes on."""
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    image, mask = with_man(grey, 250), boxes_mask([(250, 120, 397, 230)], grey.shape, grow=0)
    sample = make(image, [image] * 3, {"refs": [reference(mask)]})
    _, meta = run(sample)
    assert meta["held"] > 0.004


def test_a_hole_is_looked_at_part_by_part() -> None:
    hole = boxes_mask([(10, 10, 20, 30), (100, 40, 180, 80), (50, 50, 51, 51)], (100, 200), grow=0)
    assert parts(hole) == [(92, 36, 188, 84), (9, 8, 21, 32)]
    assert parts(boxes_mask([(50, 50, 51, 51)], (100, 200), grow=0)) == [(49, 49, 52, 52)]


def test_colours_alone_tell_a_plate_that_shows_the_man_again() -> None:
    _, meta = run(ghost(), hide_score=0.99, max_likeness=0.05)
    assert meta["likeness"] > 0.05 and list(meta["leaks"]) == ["patchmatch"]


def test_a_hole_too_large_to_make_up_is_left_out() -> None:
    sample, meta = run(walk(speed=0), max_invented=0.05)
    assert meta["reason"] == "hole_too_large" and meta["hole"] > 0.05 and "background.jpg" not in sample.files


def test_the_guard_on_a_real_frame() -> None:
    detect, scene = NanoDet(store.path("nanodet")), scenery()
    hole = boxes_mask([(240, 110, 410, 262)], scene.shape, grow=0)
    assert leak_score(detect(with_man(scene, 250), 0.1, {"person"}), hole) > 0.4
    assert leak_score(detect(with_man(scene, 250), 0.1, {"person"}), np.roll(hole, 200, axis=1)) == 0
    assert leak_score(detect(scene, 0.1, {"person"}), hole) < 0.2


def test_a_second_man_whom_nobody_named_is_painted_out_too() -> None:
    sample = walk(left=60)
    scene = scenery()
    sample.files["frame1.jpg"] = jpeg(with_man(with_man(scene, 60), 420))
    painted, meta = run(sample)
    assert meta["instances"] == 1
    assert psnr(decode(painted.files["background.jpg"])[120:252, 430:560], with_man(scene, 420)[120:252, 430:560]) < 20
    assert not NanoDet(store.path("nanodet"))(decode(painted.files["background.jpg"]), 0.25, {"person"})


def test_a_box_that_was_not_cut_out_is_painted_out_whole() -> None:
    sample = walk()
    other = reference(boxes_mask([(250, 120, 397, 252)], (HEIGHT, WIDTH), grow=0), frame=0)
    miss = {"frame": 1, "label": "person", "box": [250, 120, 397, 252], "reason": "mask_uncertain"}
    sample.meta["segment_entities"]["entities"] = [{"refs": [other], "misses": [miss]}]
    _, meta = run(sample)
    assert meta["instances"] == 0 and meta["method"].startswith("plate") and meta["hole"] > 0.08


@pytest.mark.parametrize("refs", [[], [reference(np.ones((HEIGHT, WIDTH), bool), frame=0)]], ids=["nowhere", "on another frame"])
def test_a_subject_nobody_found_here_makes_no_background(refs: list[dict[str, Any]]) -> None:
    """It may well be in the picture: a cat in a blurred frame."""
    sample, meta = run(make(scenery(), [], {"refs": refs, "misses": [{"frame": 1, "reason": "no_box", "score": None}]}))
    assert meta["reason"] == "subject_not_localised" and meta["member"] is None and "background.jpg" not in sample.files


def test_a_frame_with_nothing_to_remove_is_its_own_background() -> None:
    sample, meta = run(make(scenery(), [], {"refs": []}, kind="object"))
    assert meta["method"] == "frame" and meta["hole"] == 0
    assert sample.files["background.jpg"] == sample.files["frame1.jpg"]


def digest(before: int) -> str:
    for _ in range(before):
        run(walk(left=120, speed=0))
    sample, _ = run(walk(speed=10))
    return hashlib.sha256(sample.files["background.jpg"] + json.dumps(sample.meta[NAME]).encode()).hexdigest()


@pytest.mark.slow
def test_the_same_bytes_in_every_process_whatever_ran_before() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert len(set(pool.map(digest, [0, 1]))) == 1


def test_a_frame_borrows_the_boxes_of_its_neighbours_that_it_misses() -> None:
    boxes = [[(0, 0, 10, 10)], [], [(1, 0, 11, 10), (50, 50, 60, 60)]]
    assert with_neighbours(boxes, 1) == [(0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)]
    assert with_neighbours(boxes, 2) == boxes[2]
    assert with_neighbours([[(0, 0, 10, 10)], boxes[2]], 0) == [(0, 0, 10, 10), (50, 50, 60, 60)]


def test_boxes_mask_grows_and_stays_in_the_frame() -> None:
    mask = boxes_mask([(10, 10, 20, 30), (-50, -50, -20, -20)], (40, 25, 3), grow=0.1)
    ys, xs = np.nonzero(mask)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (8, 31, 9, 20)


def test_a_label_outside_coco_stands_for_the_class_it_means() -> None:
    """An open-vocabulary backend labels by the word: the man nobody named is found all the same."""
    sample = walk(left=60)
    sample.files["frame1.jpg"] = jpeg(with_man(with_man(scenery(), 60), 420))
    sample.meta["segment_entities"]["entities"][0]["refs"][0]["label"] = "boy"
    assert run(sample)[1]["instances"] == 1
    assert run(sample, instances=False)[1]["instances"] == 0


def test_the_prompt_is_the_background_words_or_the_protocol_s() -> None:
    words = [{"word": "street", "kind": "background"}, {"word": "man", "kind": "subject"}, {"word": "sky", "kind": "background"}]
    sample = Sample("clip", meta={"extract_entities": {"entities": words}})
    assert prompt(sample, words=True) == "street, sky"
    assert prompt(sample, words=False) == PROTOCOL
    words.clear()
    assert prompt(sample, words=True) == PROTOCOL


def test_seeds_come_from_the_key_and_the_try() -> None:
    assert seed("a", 0) == seed("a", 0) and len({seed(key, n) for key in ("a", "b", "a 0") for n in range(3)}) == 9
    assert 0 <= seed("a", 0) < 2**32


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> InpaintBackground:
    """The stage with a tiny random model: it paints noise, where it should."""
    pytest.importorskip("diffusers", reason="the paper extra is not installed")

    folder = tiny.stable_diffusion(tmp_path_factory.mktemp("sd"))
    stage = InpaintBackground(model="stable-diffusion", weights=str(folder), side=128, steps=2, instances=False)
    assert stage.models() == ("nanodet", "wordnet", "efficientnet-lite2")
    stage.load()
    return stage


class Stubborn:
    """A painter that leaves the man where he is on the first tries, then paints grey; it remembers what it was asked for."""

    def __init__(self, times: int):
        self.times, self.asked = times, []

    def __call__(self, images: list, holes: list, prompts: list, seeds: list) -> list[np.ndarray]:
        self.asked.append((prompts, seeds))
        shape = holes[0].shape[::-1]
        return [cv2.resize(i, shape) if len(self.asked) <= self.times else np.full((*shape, 3), 128, np.uint8) for i in images]


def stubborn(stage: InpaintBackground, times: int, **knobs: Any) -> tuple[InpaintBackground, Stubborn]:
    other = replace(stage, **knobs)
    other.__dict__ |= {k: v for k, v in stage.__dict__.items() if k.startswith("_")}
    other._diffusion = painter = Stubborn(times)
    return other, painter


@pytest.mark.paper
def test_stable_diffusion_paints_the_hole_and_nothing_else(diffusion: InpaintBackground) -> None:
    sample = apply(diffusion, [walk(scale=2)])[0]
    meta = sample.meta[NAME]
    assert meta["method"] == "stable-diffusion" and meta["member"] == "background.jpg" and meta["prompt"] == PROTOCOL
    assert meta["invented"] == meta["hole"] > 0.08 and list(meta["leaks"]) == ["stable-diffusion.0"]
    frame, result = decode(sample.files["frame1.jpg"]), decode(sample.files["background.jpg"])
    outside = ~boxes_mask([(416, 176, 880, 576)], frame.shape, grow=0)
    assert result.shape == frame.shape and (result[outside] == decode(jpeg(frame))[outside]).all()
    inside = np.s_[260:480, 520:770]
    assert psnr(result[inside], frame[inside]) < 20


@pytest.mark.paper
def test_stable_diffusion_gives_the_same_bytes_in_any_batch(diffusion: InpaintBackground) -> None:
    def clips() -> list[Sample]:
        empty = make(scenery(), [], {"refs": []}, kind="object")
        lost = make(scenery(), [], {"refs": [], "misses": []})
        made = [walk(), empty, walk(left=120), lost, walk(left=300)]
        for i, sample in enumerate(made):
            sample.key = f"clip{i}"
        return made

    together = apply(diffusion, clips())
    assert [s.meta[NAME]["method"] for s in together] == [
        "stable-diffusion",
        "frame",
        "stable-diffusion",
        "none",
        "stable-diffusion",
    ]
    assert together[3].meta[NAME]["reason"] == "subject_not_localised" and "background.jpg" not in together[3].files
    for sample, alone in zip(together, (apply(diffusion, [clip])[0] for clip in clips()), strict=True):
        assert sample.files == alone.files and sample.meta == alone.meta


@pytest.mark.paper
def test_a_leak_is_tried_again_with_another_seed(diffusion: InpaintBackground) -> None:
    stage, painter = stubborn(diffusion, times=1)
    first, second = walk(), walk(left=120)
    first.key, second.key = "a", "b"
    samples = apply(stage, [first, second])
    assert [seeds for _, seeds in painter.asked] == [[seed("a", 0), seed("b", 0)], [seed("a", 1), seed("b", 1)]]
    for sample in samples:
        leaks = sample.meta[NAME]["leaks"]
        assert leaks["stable-diffusion.0"] > 0.3 > 0.2 > leaks["stable-diffusion.1"]
        assert sample.meta[NAME]["reason"] is None and "background.jpg" in sample.files


@pytest.mark.paper
@pytest.mark.parametrize("on_leak", ["omit", "reject"])
def test_a_leak_that_stays_gives_up(diffusion: InpaintBackground, on_leak: str) -> None:
    stage, painter = stubborn(diffusion, times=9, on_leak=on_leak, retries=1)
    sample = apply(stage, [walk()])[0]
    assert len(painter.asked) == 2 and "background.jpg" not in sample.files
    assert sample.meta[NAME]["reason"] == "leaked" and len(sample.meta[NAME]["leaks"]) == 2
    assert sample.verdict.reason == ("background_leaked" if on_leak == "reject" else "")
