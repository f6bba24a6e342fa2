from __future__ import annotations

from collections import Counter

import pytest

from curation.trainer.references import Candidate, References, _within, background, choose, subjects
from curation.trainer.seeds import generator
from tests.trainer import made

pytestmark = pytest.mark.trainer
DRAWS = 100_000


def near(count: int, share: float, draws: int = DRAWS) -> bool:
    """Within four binomial standard errors."""
    return abs(count / draws - share) <= 4 * (share * (1 - share) / draws) ** 0.5


@pytest.fixture(scope="module")
def drawn() -> list[list[Candidate]]:
    """100K draws without the limit of slots, of two subjects with three and one object with three cut-outs."""
    clip = made.clip(made.sample("a", subjects=2, objects=1))
    source, knobs = generator("a3"), References(slots=10)
    return [choose(clip, knobs, source) for _ in range(DRAWS)]


def pictures(references: list[Candidate]) -> list[Candidate]:
    return [r for r in references if r.kind != "background"]


def test_the_background_comes_half_the_time_and_last(drawn):
    assert near(sum(r[-1].kind == "background" for r in drawn), 0.5)
    assert all(x.kind != "background" for r in drawn for x in r[:-1])


def test_the_number_of_images_is_a_sum_of_one_to_three_draws_of_one_to_three(drawn):
    """P(n) from the rule alone: 1, 2 or 3 subjects, each of 1, 2 or 3 images, all equally likely."""
    law: Counter[int] = Counter()
    for a in (1, 2, 3):
        law[a] += 9
        for b in (1, 2, 3):
            law[a + b] += 3
            for c in (1, 2, 3):
                law[a + b + c] += 1
    assert sum(law.values()) == 81
    found = Counter(len(pictures(r)) for r in drawn)
    assert set(found) == set(law)
    for number, weight in law.items():
        assert near(found[number], weight / 81), number


def test_the_number_of_distinct_subjects_follows_from_drawing_with_replacement(drawn):
    """Of three: one with P = 1/3 (1 + 1/3 + 1/9), three with 1/3 · 2/9, two with the rest."""
    found = Counter(len({r.word for r in pictures(row)}) for row in drawn)
    assert near(found[1], 13 / 27)
    assert near(found[3], 2 / 27)
    assert near(found[2], 12 / 27)


def test_every_image_is_as_likely(drawn):
    singles = [row[0].member for row in map(pictures, drawn) if len(row) == 1]
    found = Counter(singles)
    assert len(found) == 9
    assert all(near(count, 1 / 9, len(singles)) for count in found.values())
    pairs = [row for row in map(pictures, drawn) if len(row) == 2]
    # two images are of one draw (1/3 · 1/3) or of two (1/3 · 1/9 of the same three): the same one twice 1/3 or 1/9 of the time
    assert near(sum(a == b for a, b in pairs), (1 / 9 * 1 / 3 + 1 / 27 * 1 / 9) / (1 / 9 + 1 / 27), len(pairs))


def test_words_and_spans_are_the_captions(drawn):
    clip = made.clip(made.sample("a", subjects=2, objects=1))
    for reference in {r for row in drawn[:1000] for r in row}:
        assert reference.span and clip.caption[slice(*reference.span)] == reference.word


def test_six_slots_keep_the_background_and_every_subject():
    clip = made.clip(made.sample("a", subjects=3, objects=0))
    free, six = References(slots=10), References()
    over = 0
    for i in range(3000):
        all_of_them, kept = choose(clip, free, generator(i)), choose(clip, six, generator(i))
        over += len(all_of_them) > 6
        assert len(kept) == min(6, len(all_of_them))
        assert [r for r in kept if r.kind == "background"] == [r for r in all_of_them if r.kind == "background"]
        assert {r.word for r in kept} == {r.word for r in all_of_them}
        rest = iter(all_of_them)
        assert all(r in rest for r in kept)  # in the order drawn
    assert over > 300


def test_what_is_cut_is_the_latest_of_the_subjects_with_several():
    image = {w: [Candidate(f"{w}{i}", w, (0, 1), "subject") for i in range(3)] for w in "abc"}
    drawn = [(0, c) for c in image["a"]] + [(1, c) for c in image["b"]] + [(2, c) for c in image["c"]]
    assert [c.member for c in _within(drawn, 6)] == ["a0", "a1", "a2", "b0", "b1", "c0"]
    assert [c.member for c in _within(drawn, 5)] == ["a0", "a1", "a2", "b0", "c0"]
    assert [c.member for c in _within(drawn, 2)] == ["a0", "b0"]


def test_faces_stand_for_their_person_as_often_as_the_knob_says():
    clip = made.clip(made.sample("a", objects=0, refs=1, face=True, background=False))
    source, knobs = generator("faces"), References(subjects=1, images=1, face=0.3)
    found = Counter(r.kind for _ in range(20_000) for r in choose(clip, knobs, source))
    assert near(found["face"], 0.3, 20_000)
    assert found["face"] + found["subject"] == 20_000
    face = subjects(clip, True)[0][0].face
    assert face == Candidate("face.0.0.jpg", "man", (2, 5), "face")


def test_objects_are_drawn_only_if_wanted():
    clip = made.clip(made.sample("a", subjects=1, objects=2))
    assert [s[0].whole.word for s in subjects(clip, objects=True)] == ["man", "dog", "ball"]
    assert [s[0].whole.word for s in subjects(clip, objects=False)] == ["man"]


def test_what_is_refused_is_not_drawn():
    clip = made.clip(made.sample("a", subjects=2, objects=0))
    man, dog = (entity for entity in clip.entities if entity.kind == "subject")
    man.refs[1].member, man.refs[1].refused = None, "cut_off"
    for ref in dog.refs:
        ref.member, ref.refused = None, "part_only"
    assert [[image.whole.member for image in row] for row in subjects(clip, objects=False)] == [["ref.0.0.webp", "ref.0.2.webp"]]


def test_a_clip_without_cut_outs_gives_its_background_or_nothing():
    clip = made.clip(made.sample("a", refs=0))
    found = Counter(tuple(r.kind for r in choose(clip, References(), generator(i))) for i in range(400))
    assert set(found) == {(), ("background",)}
    bare = made.clip(made.sample("a", refs=0, background=False))
    assert all(choose(bare, References(), generator(i)) == [] for i in range(50))


def test_the_background_is_bound_to_its_word_if_there_is_one():
    clip = made.clip(made.sample("a"))
    street = clip.caption.index("street")
    assert background(clip) == Candidate("background.jpg", "street", (street, street + 6), "background")
    clip.entities = [e for e in clip.entities if e.kind != "background"]
    assert background(clip) == Candidate("background.jpg", "", None, "background")
