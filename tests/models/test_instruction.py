from __future__ import annotations

import json

import pytest

from curation.models.instruction import AGENTS, EXAMPLES, LONGEST_CAPTION, messages
from curation.models.spans import guide
from curation.stages.extract_entities import parse, post_process


def test_the_papers_example_comes_first_and_as_printed() -> None:
    caption, tags = EXAMPLES[0]
    assert caption == "A woman in a mask and coat, with long brown hair, shows a small green-capped bottle to the camera."
    assert tags == {"subject": ["woman"], "object": ["mask", "coat", "long brown hair", "green-capped bottle"]}


@pytest.mark.parametrize("subjects", ["living", "agent"])
def test_the_examples_keep_their_own_rules(subjects: str) -> None:
    """Each answer is one that the guide would let through, and passes the paper's checks."""
    turns = messages("A man.", subjects)  # type: ignore[arg-type]
    pairs = list(zip(turns[:-1:2], turns[1::2], strict=True))
    assert len(pairs) == len(EXAMPLES) and [t["role"] for t in turns] == ["user", "assistant"] * len(pairs) + ["user"]
    for (caption, _), (said, answered) in zip(EXAMPLES, pairs, strict=True):
        assert said["content"].endswith(f"Caption: {caption}")
        found, tags = guide(caption), parse(answered["content"])
        assert found and tags
        assert {tag for some in tags.values() for tag in some} <= set(found.schema["$defs"]["tag"]["enum"])
        assert list(tags) == list(found.schema["properties"])
        entities, reason = post_process(caption, answered["content"], lambda _: False)
        assert reason in (None, "no_subject", "plural_subject")
        assert ("blue truck" in [e["word"] for e in entities if e["kind"] == "subject"]) == (
            subjects == "agent" and "truck" in caption
        )
        assert answered["content"] == json.dumps(tags, separators=(",", ":"))


def test_only_the_last_turn_depends_on_the_caption() -> None:
    one, other = messages("A man."), messages("  Two dogs \n")
    assert one[:-1] == other[:-1]
    assert (one[-1]["content"], other[-1]["content"]) == ("Caption: A man.", "Caption: Two dogs")


def test_any_caption_can_be_tokenised() -> None:
    messages("\ud800 x")[-1]["content"].encode()
    assert len(messages("x" * 10_000)[-1]["content"]) <= LONGEST_CAPTION + 20


def test_vehicles_of_the_examples_are_among_their_objects() -> None:
    assert {tag for _, tags in EXAMPLES for tag in tags.get("object", [])} >= AGENTS
