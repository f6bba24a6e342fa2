"""How a clip moves, by plain measures: what is left after the camera's own motion, and how much of it stands still."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 320
"""Pixels of the long side that is measured at; not stated by the paper."""
CORNERS, NEAR = 300, 5
"""Points that are followed from one picture to the next, and pixels between them."""
REACH = 3.0
"""Pixels by which a followed point may miss what its plane says."""
FEWEST = 12
"""Points that a plane is fitted to at least."""
MOVES = 1.0
"""Pixels of flow at `SIDE` that count as motion of its own."""
UNLIKE = 12.0
"""Grey levels by which two pictures of one thing differ at most: what codecs leave."""
TEXTURE = 60.0
"""Sobel's grey levels from which a pixel has a motion that can be seen."""
FAR = 4
"""Pictures between two that lie far apart: a quarter of 16."""


def shrunk(pictures: Sequence[np.ndarray], side: int = SIDE) -> list[np.ndarray]:
    """uint8 RGB pictures of one size → grey, the long side `side` at most."""
    height, width = pictures[0].shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return [cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for p in pictures]


def measures(greys: Sequence[np.ndarray]) -> dict[str, float]:
    """Of evenly spaced grey pictures of one clip, as `shrunk` makes them; with fewer than two nothing moves.

    Between neighbours, and (`far_`) between pictures a quarter of the clip apart, the camera is taken out by the homography that
    explains most. `residual` is the share of the textured pixels both show that move by themselves, `residual_flow` their mean
    motion as a share of the diagonal, `rough` how much of it changes from pixel to pixel; `camera` the motion of the frame's
    corners and `zoom` its scale; `explained` the share of followed points on the plane, `explained_two` on it or on a second one;
    `unlike` the share of pixels that differ by more than noise after it. Before it: `change` the same, `same` the share that does
    not differ at all, `brighter` the difference in brightness. Of each the median, of some the extremes.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    last = len(greys) - 1
    near = [(at, at + 1) for at in range(0, last, 2)]
    far = [(at, min(last, at + FAR)) for at in range(0, last, FAR)] if last > FAR else near
    found: dict[str, float] = {}
    for prefix, pairs in (("", near), ("far_", far)):
        rows = [_pair(greys[a], greys[b], flow) for a, b in pairs] or [_still()]
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        found |= {prefix + name: float(np.median(values)) for name, values in table.items()}
        found |= {f"{prefix}{name}_most": float(table[name].max()) for name in ("residual", "residual_flow", "camera")}
        found |= {f"{prefix}{name}_least": float(table[name].min()) for name in ("residual", "explained")}
        camera = table["camera"]
        found[f"{prefix}steady"] = float(1 - min(1.0, camera.std() / (camera.mean() + 1e-4)))
    return found | _changes(greys)


def _changes(greys: Sequence[np.ndarray]) -> dict[str, float]:
    """From one picture to the next as they are. `idle`: the share of steps in which nothing happens; `bursts`: how unevenly
    change is spread over them."""
    steps = [cv2.absdiff(a, b) for a, b in zip(greys, greys[1:], strict=False)] or [np.zeros_like(greys[0])]
    change = np.array([(step > UNLIKE).mean() for step in steps])
    light = np.array([grey.mean() for grey in greys]) / 255
    return {
        "change": float(np.median(change)),
        "change_most": float(change.max()),
        "change_least": float(change.min()),
        "same": float(np.median([(step <= 1).mean() for step in steps])),
        "brighter": float(np.abs(np.diff(light)).max(initial=0.0)),
        "idle": float((change < 0.002).mean()),
        "bursts": float(min(4.0, change.std() / (change.mean() + 1e-3))),
    }


def _still() -> dict[str, float]:
    still = dict.fromkeys(("residual", "residual_flow", "rough", "camera", "zoom", "unlike"), 0.0)
    return still | {"explained": 1.0, "explained_two": 1.0}


def _pair(before: np.ndarray, after: np.ndarray, flow: cv2.DISOpticalFlow) -> dict[str, float]:
    plane, explained, explained_two = _plane(before, after)
    height, width = after.shape
    diagonal = float(np.hypot(height, width))
    warped = cv2.warpPerspective(before, plane, (width, height), flags=cv2.INTER_LINEAR)
    shared = cv2.warpPerspective(np.full_like(before, 255), plane, (width, height), flags=cv2.INTER_NEAREST) > 0
    shared &= _inside(shared)
    if shared.mean() < 0.2:
        shared = np.ones_like(shared)
    lit = _as_bright(warped, after, shared)
    field = np.nan_to_num(flow.calc(lit, after, None))  # of pictures without any detail it is not a number
    own = np.minimum(np.linalg.norm(field, axis=2), diagonal)
    textured = shared & _textured(after)
    seen = textured if textured.mean() > 0.02 else shared
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)[:, None]
    moved = cv2.perspectiveTransform(corners, plane) - corners
    return {
        "residual": float((own[seen] > MOVES).mean()),
        "residual_flow": float(own[seen].mean() / diagonal),
        "rough": float(min(4.0, _roughness(field)[seen].mean() / (own[seen].mean() + 0.1))),
        "camera": float(min(1.0, np.linalg.norm(moved, axis=2).mean() / diagonal)),
        "zoom": float(min(1.0, abs(np.sqrt(abs(np.linalg.det(plane[:2, :2]))) - 1))),
        "explained": explained,
        "explained_two": explained_two,
        "unlike": float((cv2.absdiff(lit, after)[shared] > UNLIKE).mean()),
    }


def _textured(grey: np.ndarray) -> np.ndarray:
    """Where there is something whose motion can be seen."""
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) > TEXTURE
    return cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def _roughness(field: np.ndarray) -> np.ndarray:
    """By how many pixels a flow differs from that around, float32 [H, W]."""
    return np.linalg.norm(field - cv2.blur(field, (9, 9)), axis=2)


def _plane(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The homography from one picture to the next, and the shares of followed points on it and on it or a second one; the
    identity and 0 without any. Points are followed by flow, and where that loses them found again by their looks."""
    best, share, both = np.eye(3), 0.0, 0.0
    for start, end in (_followed(before, after), _matched(before, after)):
        plane, kept = _fitted(start, end)
        if plane is not None and kept.mean() > share:
            rest = _fitted(start[~kept], end[~kept])[1]
            best, share, both = plane, float(kept.mean()), float((kept.sum() + rest.sum()) / len(kept))
        if share > 0.7:
            break
    return best, share, both


def _fitted(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The homography that most of the points follow, and which do; None when there is none that a camera could make."""
    if len(start) >= FEWEST:
        plane, kept = cv2.findHomography(start, end, cv2.RANSAC, REACH)
        if plane is not None and 0.2 < abs(np.linalg.det(plane[:2, :2])) < 5:
            return plane, kept.ravel().astype(bool)
    return None, np.zeros(len(start), bool)


def _followed(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, NEAR)
    if points is None:
        return np.empty((0, 1, 2), np.float32), np.empty((0, 1, 2), np.float32)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None)
    good = (found & again).ravel().astype(bool) & (np.linalg.norm(back - points, axis=2).ravel() < 1)
    return points[good], there[good]


def _matched(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    orb = cv2.ORB.create(CORNERS, fastThreshold=8)
    (here, a), (there, b) = orb.detectAndCompute(before, None), orb.detectAndCompute(after, None)
    if a is None or b is None:
        return np.empty((0, 1, 2), np.float32), np.empty((0, 1, 2), np.float32)
    pairs = cv2.BFMatcher.create(cv2.NORM_HAMMING, crossCheck=True).match(a, b)
    start = np.array([here[pair.queryIdx].pt for pair in pairs], np.float32).reshape(-1, 1, 2)
    return start, np.array([there[pair.trainIdx].pt for pair in pairs], np.float32).reshape(-1, 1, 2)


def _inside(shared: np.ndarray) -> np.ndarray:
    """Without a rim, where warped pictures end."""
    return cv2.erode(shared.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)


def _as_bright(warped: np.ndarray, after: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The first picture with the second one's mean and spread: exposure is no motion."""
    a, b = warped[shared].astype(np.float32), after[shared].astype(np.float32)
    gain = np.clip(b.std() / max(1.0, float(a.std())), 0.5, 2.0)
    return np.clip((warped.astype(np.float32) - a.mean()) * gain + b.mean(), 0, 255).astype(np.uint8)
