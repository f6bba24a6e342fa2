"""Which box is whose: link the boxes of several frames into individuals, and give each entity its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from curation.models.boxes import Box, area, patch, same_place
from curation.models.colours import colour_of, shown

Links = dict[tuple[int, int, int, int], float]
"""Similarity of box i of frame f and box j of frame g > f, by (f, i, g, j)."""

LINK = 0.5
"""Similarity at which two boxes are as likely one individual as two; measured on panda70m-mini (see `similarity`)."""
MOST = 6
"""Boxes per frame and entity that are considered, the most prominent first."""
EFFORT = 20_000
"""Steps of the exact search for the best assignment, after which the best so far is taken. Up to three never need it."""


class Track(NamedTuple):
    """One individual: for each frame the index of its box, or None. `score` is what the assignment maximises."""

    score: float
    boxes: tuple[int | None, ...]


class Candidate(NamedTuple):
    """A box that may show a word: xyxy in pixels, the detector's own label, its score in [0, 1]. Two candidates of one `kind` at
    one place are one thing, whatever words they were found for. `found_by` says what sort of network stands for it."""

    box: Box
    label: str
    score: float
    kind: str
    found_by: str = "detector"


class Sighting(NamedTuple):
    """A candidate chosen for an entity; `link` is its mean similarity to the entity's other sightings, None when it has none.

    A `stranger` is too unlike those to be the same individual; the others' links leave it out.
    """

    box: Box
    label: str
    score: float
    kind: str
    found_by: str
    link: float | None
    stranger: bool = False


class Likeness(Protocol):
    """What tells individuals apart: the looks of boxes by frame, and how like two of different frames are, in [0, 1]."""

    def looks(self, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]: ...

    def similarity(self, a: Box, b: Box, look_a: np.ndarray, look_b: np.ndarray) -> float: ...


class ByColour:
    """Likeness by `look` and `similarity` below."""

    def looks(self, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]:
        return [[look(frame, box) for box in row] for frame, row in zip(frames, boxes, strict=True)]

    def similarity(self, a: Box, b: Box, look_a: np.ndarray, look_b: np.ndarray) -> float:
        return similarity(a, b, look_a, look_b)


def follow(
    frames: Sequence[np.ndarray],
    words: Sequence[str],
    found: Sequence[Sequence[Sequence[Candidate]]],
    threshold: float,
    likeness: Likeness | None = None,
    min_link: float = 0.0,
) -> list[list[Sighting | None]]:
    """Choose for each word, on each frame, the box of its one individual, or None: [word][frame].

    `found[frame][word]` are the candidates, `frames` RGB uint8. No place is given to two words of a kind. An individual needs one
    box with a score of at least `threshold`. Of several a word prefers the surer, more prominent one of the colour it names, and
    one that the other frames show too. `likeness` is `ByColour` unless given; a sighting whose link is below `min_link` is a
    stranger, the least linked one first.
    """
    likeness = likeness or ByColour()
    places = [_places(row) for row in found]
    looks = likeness.looks(frames, [[box for box, _ in row] for row in places])
    links = {
        (f, i, g, j): likeness.similarity(places[f][i][0], places[g][j][0], looks[f][i], looks[g][j])
        for f, g in combinations(range(len(frames)), 2)
        for i in range(len(places[f]))
        for j in range(len(places[g]))
    }
    mine = [[_by_place(row[word], places[f]) for f, row in enumerate(found)] for word in range(len(words))]
    options = []
    for word, row in zip(words, mine, strict=True):
        values = [{i: _value(frame, c, word) for i, c in boxes.items()} for frame, boxes in zip(frames, row, strict=True)]
        options.append([t for t in tracks(values, links) if max(row[f][i].score for f, i in _placed(t)) >= threshold])
    chosen = _in_reading_order(assign(options), mine, options)
    return [_sightings(track, row, links, min_link) for track, row in zip(chosen, mine, strict=True)]


def look(image: np.ndarray, box: Box) -> np.ndarray:
    """Colours of what is in a box of an RGB uint8 image: roots of two Lab histograms (upper and lower half of its middle
    ellipse), float32, dot product with another in [0, 1] (Bhattacharyya)."""
    lab = cv2.cvtColor(cv2.resize(patch(image, box), (48, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    ellipse = cv2.ellipse(np.zeros((64, 48), np.uint8), (24, 32), (16, 30), 0, 0, 360, 1, -1)
    halves = [
        cv2.calcHist([lab[rows]], [0, 1, 2], ellipse[rows], [4, 12, 12], [0, 256] * 3) for rows in (slice(32), slice(32, 64))
    ]
    return np.sqrt(np.concatenate([h.ravel() / max(1.0, float(h.sum())) for h in halves]) / 2)


def similarity(a: Box, b: Box, look_a: np.ndarray, look_b: np.ndarray) -> float:
    """How likely two boxes of different frames show one individual, in [0, 1]: colours (0.7) and place with size (0.3)."""
    size = max(1.0, (area(a) * area(b)) ** 0.25)
    moved = np.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2) / size
    grown = min(area(a), area(b)) / max(1.0, area(a), area(b))
    return float(0.7 * (look_a @ look_b) + 0.3 * np.exp(-moved) * grown**0.5)


def prominence(box: Box, width: int, height: int) -> float:
    """How much a box stands out in its frame, in [0, 1]: half for its size, half for being near the middle."""
    off = np.hypot((box[0] + box[2]) / width - 1, (box[1] + box[3]) / height - 1) / 2**0.5
    return float(0.5 * (area(box) / (width * height)) ** 0.5 + 0.5 * (1 - min(1.0, off)))


def tracks(values: Sequence[dict[int, float]], links: Links) -> list[Track]:
    """All individuals one entity could be, best first.

    `values[frame][box]` is how good a box is by itself (> 0); `links[f, i, g, j]` the similarity of box i of frame f and box j
    of frame g > f. A track is worth its boxes plus, per pair, how far their similarity is above or below `LINK`.
    """
    choices = [[None, *sorted(v, key=lambda i: (-v[i], i))[:MOST]] for v in values]
    found = []
    for boxes in product(*choices):
        placed = [(f, b) for f, b in enumerate(boxes) if b is not None]
        if placed:
            pairs = sum(links[f, i, g, j] - LINK for (f, i), (g, j) in combinations(placed, 2))
            found.append(Track(sum(values[f][i] for f, i in placed) + 2 * pairs, boxes))
    return sorted(found, key=lambda t: -t.score)


def assign(options: Sequence[Sequence[Track]]) -> list[Track | None]:
    """One track per entity, or None, so that no two share a box in a frame and the sum of scores is the highest.

    `options[entity]` are sorted best first. Among equals the earlier entity has the better track.
    """
    best: list[Track | None] = [None] * len(options)
    chosen: list[Track | None] = []
    hopes = np.cumsum([max([0.0, *(t.score for t in tracks[:1])]) for tracks in reversed(options)])[::-1].tolist() + [0.0]
    top, steps = -1.0, 0

    def search(score: float) -> None:
        nonlocal best, top, steps
        entity = len(chosen)
        if entity == len(options):
            if score > top + 1e-9:
                best, top = list(chosen), score
            return
        taken = {place for track in chosen for place in _placed(track)}
        for track in (*options[entity], None):
            steps += 1
            value = track.score if track else 0.0
            if value < 0 or (track and not taken.isdisjoint(enumerate(track.boxes))):
                continue
            if score + value + hopes[entity + 1] <= top + 1e-9 or (steps > EFFORT and top >= 0):
                break
            chosen.append(track)
            search(score + value)
            chosen.pop()

    search(0.0)
    return best


def _places(row: Sequence[Sequence[Candidate]]) -> list[tuple[Box, str]]:
    """The distinct things of a frame: box and kind of the best candidate of each."""
    places: list[tuple[Box, str]] = []
    for c in sorted((c for candidates in row for c in candidates), key=lambda c: (-c.score, c.box)):
        if not _there(c, places).any():
            places.append((c.box, c.kind))
    return places


def _by_place(candidates: Sequence[Candidate], places: Sequence[tuple[Box, str]]) -> dict[int, Candidate]:
    """A word's best candidate at each place."""
    best: dict[int, Candidate] = {}
    for c in sorted(candidates, key=lambda c: (-c.score, c.box)):
        best.setdefault(int(_there(c, places).argmax()), c)
    return best


def _there(candidate: Candidate, places: Sequence[tuple[Box, str]]) -> np.ndarray:
    """Which of the places are the candidate's: bools."""
    alike = np.array([kind == candidate.kind for _, kind in places], bool)
    return alike & same_place(candidate.box, [box for box, _ in places])


def _value(frame: np.ndarray, candidate: Candidate, word: str) -> float:
    """What a box is worth to a word by itself: score, prominence, and its colour if the word names one; each in [0, 1]."""
    colour = colour_of(word)
    suits = shown(frame, candidate.box, colour) if colour else 0.0
    return candidate.score + prominence(candidate.box, frame.shape[1], frame.shape[0]) + suits


def _in_reading_order(
    chosen: Sequence[Track | None], mine: Sequence[Sequence[dict[int, Candidate]]], options: Sequence[Sequence[Track]]
) -> list[Track | None]:
    """Deal the tracks of words with the very same options again: a caption names the large ones first, and those from left to
    right ("a man and a woman"). At least half the largest one's area counts as large."""
    dealt = list(chosen)
    for first, row in enumerate(mine):
        peers = [w for w in range(first, len(mine)) if mine[w] == row and options[w] == options[first] and chosen[w]]
        if len(peers) < 2 or chosen[first] is None or any(mine[w] == row for w in range(first)):
            continue
        boxes = {w: [row[f][i].box for f, i in _placed(chosen[w])] for w in peers}
        sizes = {w: sum(map(area, boxes[w])) / len(boxes[w]) for w in peers}
        left = {w: sum(b[0] + b[2] for b in boxes[w]) / len(boxes[w]) for w in peers}
        small = {w: sizes[w] < 0.5 * max(sizes.values()) for w in peers}
        order = sorted(peers, key=lambda w: (small[w], -sizes[w] if small[w] else left[w]))
        for peer, w in zip(peers, order, strict=True):
            dealt[peer] = chosen[w]
    return dealt


def _placed(track: Track | None) -> list[tuple[int, int]]:
    """(frame, box) of a track's boxes."""
    return [(f, i) for f, i in enumerate(track.boxes) if i is not None] if track else []


def _sightings(track: Track | None, row: Sequence[dict[int, Candidate]], links: Links, min_link: float) -> list[Sighting | None]:
    placed = _placed(track)
    own = list(placed)
    while len(own) > 1:
        worst, _, least = min((_link(place, own, links), row[place[0]][place[1]].score, place) for place in own)
        if worst >= min_link:
            break
        own.remove(least)
    sightings: list[Sighting | None] = [None] * len(row)
    for f, i in placed:
        link = _link((f, i), own, links) if {*own} - {(f, i)} else None
        sightings[f] = Sighting(*row[f][i], link, (f, i) not in own)
    return sightings


def _link(place: tuple[int, int], own: Sequence[tuple[int, int]], links: Links) -> float:
    """Mean similarity of a box to the others of an individual."""
    near = [links[min(place, other) + max(place, other)] for other in own if other != place]
    return sum(near) / len(near)
