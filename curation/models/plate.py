"""What is behind a hole in a frame: recovered from other frames of the clip where they show it, else made up by PatchMatch.

The classical recipe for a clean plate: align every other frame by a homography, drop what does not agree around the hole, take
the median. Numbers without a source are "not stated by the paper": chosen by us, by eye, on panda70m-mini.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_Features = tuple[NDArray[np.float64], NDArray[np.float32]]

RING = 24
"""Pixels around the hole by which a frame is judged and its light matched, at a long side of 640."""
LIKENESS = 8.0
"""Grey levels. Inside the core of the hole, a frame this close to the one to be painted still shows what is to be removed."""
LIKENESS_WINDOW = 15
"""Pixels over which that difference is averaged: pixels agree by chance, patches do not."""
SIFT_SIDE = 320
"""Pixels of the long side at which points are sought. Measured: 6 ms a frame, at 640 24 ms; mean PSNR of plates in a fixed hole
23.7 dB at either (19 clips of panda70m-mini, things that move through the hole included)."""
STAYED = 0.7
"""Share of a part of the core that looks the same in a frame, above which it is taken not to have moved."""
CODING_NOISE = 3.0
"""Grey levels around the hole below which a frame is taken as seen by the same camera position, without looking for a motion."""
MIN_MATCHES = 16
MIN_VIEWS = 2
TOLERANCE = (10.0, 20.0)
"""Grey levels, bounds of the deviation from the median above which a pixel is not known; between: 2.5 times the ring's."""
KERNEL = 4
"""Side of the square by which MP dilates its masks (PAPER.md §1.9)."""
AGREE = 0.7
"""Share of the frames that must be so close to the median: the rest may show what passes by unnoticed."""


@dataclass(frozen=True)
class Plate:
    """`image`: the frame with the recovered pixels in place; `known`: the pixels of the hole that were recovered; `frames`: how
    many other frames agreed with this one around the hole."""

    image: Image
    known: Mask
    frames: int


@dataclass(frozen=True)
class _View:
    """Another frame, seen from this one: colours float32, where it may be trusted, its mean difference around the hole."""

    colours: NDArray[np.float32]
    valid: Mask
    residual: float


def recover(
    frame: Image, hole: Mask, others: Sequence[tuple[Image, Mask]], core: Mask | None = None, max_residual: float = 20.0
) -> Plate:
    """Recover the hole of `frame` from `others`: pairs of a frame of the same size and a mask of what must not be taken from it.

    `core` is the part of the hole known to show what is removed (the hole before it was dilated): a frame that looks the same
    there still hides the background. A frame that differs around the hole by more than `max_residual` grey levels is not used.
    A pixel is known when at least two frames show it and agree. The result differs from `frame` in known pixels only.
    """
    core = hole if core is None else core
    ring = dilate(hole, RING) & ~hole
    features = _features(frame, ~hole)
    found = [_align(frame, ring, features, image, hidden) for image, hidden in others]
    views = [view for view in found if view and view.residual <= max_residual]
    if not views:
        return Plate(frame.copy(), np.zeros_like(hole), 0)
    area = hole | ring
    colours, spread, count = _median(
        [view.colours[area] for view in views], [(view.valid & ~_still(frame, hole, core, view))[area] for view in views]
    )
    plate, noise, known = frame.astype(np.float32), np.zeros(hole.shape, np.float32), np.zeros_like(hole)
    plate[area], noise[area], known[area] = colours, spread, count >= MIN_VIEWS
    sure = ring & known
    usual = float(np.median(noise[sure])) if sure.any() else 0.0  # water and leaves never agree exactly
    agreed = cv2.blur(noise, (5, 5)) <= np.clip(2.5 * usual, *TOLERANCE)
    known = _without_specks(known & agreed & area)
    plate = _match_light(plate, frame, known & ring)
    known &= hole
    out = frame.copy()
    out[known] = np.clip(plate[known], 0, 255).round().astype(np.uint8)
    return Plate(out, known, len(views))


def likeness(frame: Image, core: Mask, plate: Plate) -> float:
    """Share of the recovered pixels of the core whose colour is rather the removed thing's than the background's: [0, 1].

    High where the other frames showed the thing itself, moved. Of 25 plates from panda70m-mini and the sample videos, by eye: the
    one clear ghost 0.91, two doubtful ones (a wrong mask, a handful of pixels) 0.69 and 0.53, all others at most 0.37.
    Colours are counted in 8×8×8 bins; a bin speaks for the thing where it is three times as dense in it as around it.
    """
    recovered = plate.known & core
    background = ~core & ~plate.known
    if not recovered.any() or not background.any():
        return 0.0
    thing, rest = _colours(frame, core), _colours(frame, background)
    return float((thing > 3 * rest)[_bins(plate.image, recovered)].mean())


def fill(image: Image, hole: Mask, side: int = 640, seed: int = 0) -> Image:
    """Fill the hole with patches of the rest of the image (PatchMatch); the rest stays as it is. All hole: the image as it is.

    Worked at a long side of `side` pixels at most. Deterministic: the library starts every call from `seed`, on one thread.
    Raises RuntimeError where pypatchmatch has no native library, saying what to install.
    """
    patchmatch = _patchmatch()
    scale = min(1.0, side / max(hole.shape))
    size = (max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0 if scale < 1 else hole
    if small_hole.all() or not hole.any():
        return image.copy()
    patchmatch.set_random_seed(seed)
    filled = patchmatch.inpaint(np.ascontiguousarray(small), small_hole, patch_size=3)
    return paste(image, enlarge(filled, hole.shape), hole)


def paste(image: Image, patch: Image, hole: Mask, feather: int = 0) -> Image:
    """`patch` inside the hole, blended over `feather` pixels from its rim inwards; outside the hole `image`, bit for bit."""
    out = image.copy()
    if feather < 1:
        out[hole] = patch[hole]
        return out
    depth = cv2.distanceTransform(np.pad(hole, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    weight = np.clip(depth[hole] / (feather + 1), 0, 1)[:, None]
    out[hole] = (weight * patch[hole] + (1 - weight) * image[hole]).round().astype(np.uint8)
    return out


def enlarge(image: Image, shape: tuple[int, ...]) -> Image:
    """Resize to `shape` (height, width, …), with a mild unsharp mask against the softness of enlarging."""
    height, width = shape[:2]
    if image.shape[:2] == (height, width):
        return image
    large = cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4 if width > image.shape[1] else cv2.INTER_AREA)
    factor = width / image.shape[1]
    return cv2.addWeighted(large, 1.5, cv2.GaussianBlur(large, (0, 0), factor / 2), -0.5, 0) if factor > 1.2 else large


def dilate(mask: Mask, radius: int, down: int = 0) -> Mask:
    """Grow a mask by a disc of `radius` pixels, and by `down` pixels more downwards (where shadows fall)."""
    grown = mask.astype(np.uint8)
    if radius > 0:
        grown = cv2.dilate(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
    if down > 0:
        grown = cv2.dilate(grown, np.ones((down + 1, 1), np.uint8), anchor=(0, down))
    return grown.astype(bool)


def dilate_square(mask: Mask, times: int) -> Mask:
    """Grow a mask `times` times by a square of `KERNEL` pixels, as MP's released code does."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((KERNEL, KERNEL), np.uint8), iterations=times).astype(bool)


def fill_holes(mask: Mask) -> Mask:
    """Close the holes inside a mask: background that cannot be reached from the border."""
    padded = np.pad(mask, 1).astype(np.uint8)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2


def _align(frame: Image, ring: Mask, features: _Features, image: Image, hidden: Mask) -> _View | None:
    """The better of "the camera did not move" and a homography, or None when too little of the ring is seen."""
    still = _warp(frame, ring, image, hidden, np.eye(3))
    if still and still.residual < CODING_NOISE:
        return still
    matrix = _homography(_features(image, ~hidden), features)
    moved = _warp(frame, ring, image, hidden, matrix) if matrix is not None else None
    return moved if moved and (still is None or moved.residual < 0.9 * still.residual) else still


def _still(frame: Image, hole: Mask, core: Mask, view: _View) -> Mask:
    """Where a view still shows what is to be removed: the core's pixels that look the same.

    A part of the core of which most looks the same is blocked whole, and as much around it as the hole is wider: it did not move.
    """
    difference = cv2.blur(np.abs(view.colours - frame).mean(2), (LIKENESS_WINDOW, LIKENESS_WINDOW))
    same = core & (difference < max(LIKENESS, 1.5 * view.residual))
    _, parts = cv2.connectedComponents(core.astype(np.uint8))
    share = np.bincount(parts[same], minlength=parts.max() + 1) / np.maximum(np.bincount(parts.ravel()), 1)
    stayed = core & (share > STAYED)[parts]
    margin = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 5)[hole].max(initial=0)
    return dilate(same, 3) | dilate(stayed, 3 + min(RING, round(float(margin))))


def _warp(frame: Image, ring: Mask, image: Image, hidden: Mask, matrix: NDArray) -> _View | None:
    size = (ring.shape[1], ring.shape[0])
    colours = cv2.warpPerspective(image.astype(np.float32), matrix, size, flags=cv2.INTER_CUBIC)
    valid = cv2.warpPerspective(hidden.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST, borderValue=1) == 0
    seen = ring & valid
    if seen.sum() < max(50, 0.1 * ring.sum()):
        return None
    gain = np.clip((frame[seen].mean(0) + 1) / (colours[seen].mean(0) + 1), 0.6, 1.6)
    colours *= gain.astype(np.float32)
    # a moving thing in the ring must not condemn the frame: the residual is that of the better three quarters
    difference = np.sort(np.abs(colours[seen] - frame[seen]).mean(1))
    return _View(colours, valid, float(difference[: max(1, len(difference) * 3 // 4)].mean()))


def _features(image: Image, where: Mask) -> _Features:
    """SIFT points N×2 in pixels of the image and their codes, found at a long side of `SIFT_SIDE` at most."""
    scale = min(1.0, SIFT_SIDE / max(where.shape))
    size = (round(where.shape[1] * scale), round(where.shape[0] * scale))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(where.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
    points, codes = cv2.SIFT.create(1000).detectAndCompute(grey, mask)
    stretch = np.array(where.shape[::-1]) / size
    return (np.array([p.pt for p in points]).reshape(-1, 2) + 0.5) * stretch - 0.5, codes


def _homography(source: _Features, target: _Features) -> NDArray | None:
    """3×3 from SIFT matches and RANSAC (OpenCV seeds it per call), or None when it is not a plausible camera move."""
    (points, codes), (points_to, codes_to) = source, target
    if min(len(points), len(points_to)) < MIN_MATCHES:
        return None
    pairs = cv2.BFMatcher().knnMatch(codes, codes_to, k=2)
    good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
    if len(good) < MIN_MATCHES:
        return None
    start, end = points[[m.queryIdx for m in good]], points_to[[m.trainIdx for m in good]]
    matrix, inliers = cv2.findHomography(start, end, cv2.RANSAC, 2.0)
    if matrix is None or inliers.sum() < max(MIN_MATCHES, 0.25 * len(good)):
        return None
    zoom = float(np.linalg.det(matrix[:2, :2]))
    return matrix if 0.3 < zoom < 3 and float(np.abs(matrix[2, :2]).max()) < 2e-3 else None


def _median(colours: list[NDArray[np.float32]], valid: list[Mask]) -> tuple[NDArray, NDArray, NDArray]:
    """Per pixel over the frames that show it: median colour P×3, how far `AGREE` of them are from it P, their number P."""
    seen = np.stack(valid)
    count = seen.sum(0)
    values = np.sort(np.where(seen[..., None], np.stack(colours), np.inf), axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    index = np.arange(len(count))
    middle = (values[np.minimum(low, len(seen) - 1), index] + values[np.minimum(high, len(seen) - 1), index]) / 2
    middle[count == 0] = 0
    deviations = np.sort(np.where(seen, np.abs(np.stack(colours) - middle).mean(2), np.inf), axis=0)
    most = deviations[np.maximum(np.ceil(AGREE * count).astype(int) - 1, 0), index]
    return middle, np.where(count > 0, most, 0), count


def _colours(image: Image, where: Mask) -> NDArray[np.float64]:
    """Density of each of the 512 colour bins, none quite zero."""
    counts = np.bincount(_bins(image, where), minlength=512)
    return counts / counts.sum() + 1e-4


def _bins(image: Image, where: Mask) -> NDArray[np.intp]:
    calm = cv2.GaussianBlur(image, (0, 0), 1.5)[where].astype(np.intp) // 32
    return calm @ np.array([64, 8, 1])


def _without_specks(known: Mask) -> Mask:
    """Without specks: a few pixels of background amid what is made up do not help."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    return cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)


def _match_light(plate: NDArray[np.float32], frame: Image, ring: Mask, sigma: float = 20.0) -> NDArray[np.float32]:
    """Add the smooth part of the difference around the hole, so that no edge shows where light or vignette changed."""
    weight = cv2.GaussianBlur(ring.astype(np.float32), (0, 0), sigma)[..., None]
    difference = cv2.GaussianBlur(np.where(ring[..., None], frame - plate, 0).astype(np.float32), (0, 0), sigma)
    return plate + difference / np.maximum(weight, 1e-6) * np.clip(weight / 0.02, 0, 1)


def _patchmatch() -> ModuleType:
    import patchmatch

    if not patchmatch.patchmatch_available:
        raise RuntimeError(
            "pypatchmatch has no native library on this platform: install a compiler, CMake and OpenCV, then "
            "`pip install --force-reinstall --no-deps --no-cache-dir pypatchmatch==2.2.0`"
        )
    return patchmatch
