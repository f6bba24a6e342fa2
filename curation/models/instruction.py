"""What a language model is told before a caption: the paper's definitions and rules (PAPER.md §1.4), examples of ours."""

from __future__ import annotations

from typing import Literal

from curation.models.spans import answer

Subjects = Literal["living", "agent"]
Message = dict[str, str]
"""{"role": "user" | "assistant", "content": str}; the roles alternate, which the chat templates of all Mistrals demand."""

INSTRUCTION = """\
You read the caption of a video and name the things that it mentions. Answer with a JSON object of three lists of tags, \
"background", "subject" and "object".

- background: places and spaces that appear in most of the image area.
- subject: {subject}.
- object: things that take a part of the image area and can be visually separated from the rest.

Rules:
1. A tag is a noun, with its describing words if it has some, without any article, number or other quantifier.
2. A tag is an exact subset of the caption: do not add, remove or change any letter, word or symbol.

Each thing gets one tag in one list, in the order of the caption. A list may be empty. Answer with the JSON object only."""

SUBJECT = {"living": "humans and animals", "agent": "humans, animals, and vehicles that the caption is about"}

EXAMPLES: tuple[tuple[str, dict[str, list[str]]], ...] = (
    (  # the one example that the paper prints
        "A woman in a mask and coat, with long brown hair, shows a small green-capped bottle to the camera.",
        {"subject": ["woman"], "object": ["mask", "coat", "long brown hair", "green-capped bottle"]},
    ),
    (
        "Two dogs are running after a red ball in a park with tall trees.",
        {"background": ["park", "tall trees"], "subject": ["dogs"], "object": ["red ball"]},
    ),
    ("The sun is setting behind the mountains.", {"background": ["mountains"], "object": ["sun"]}),
    (
        "A bearded man wearing the team's cap is talking to a little girl in front of a brick wall.",
        {"background": ["brick wall"], "subject": ["bearded man", "little girl"], "object": ["cap"]},
    ),
    ("A blue truck is driving through the desert.", {"background": ["desert"], "object": ["blue truck"]}),
    (
        "There is a close up of a grey cat that is licking its paw on a couch.",
        {"subject": ["grey cat"], "object": ["paw", "couch"]},
    ),
)
LONGEST_CAPTION = 2_000
"""Characters of a caption that are shown to the model; Panda-70M's are below 300. Not stated by the paper."""
CAPTION = "{caption}"
"""What stands for the caption in an instruction of the user's own."""
AGENTS = {"blue truck"}
"""Objects of the examples that are subjects where vehicles are."""


def messages(caption: str, subjects: Subjects = "living", told: str = "") -> list[Message]:
    """The conversation that a caption ends; all but its last line is the same for all captions, so servers keep it cached.

    `told`, a user's own instruction with `CAPTION` in it, is all that is said instead, in one message.
    """
    if told:
        return [{"role": "user", "content": told.replace(CAPTION, _shown(caption))}]
    turns: list[Message] = []
    for example, tags in EXAMPLES:
        turns += [_user(example), {"role": "assistant", "content": answer(**_settled(tags, subjects))}]
    turns.append(_user(caption))
    turns[0]["content"] = f"{INSTRUCTION.format(subject=SUBJECT[subjects])}\n\n{turns[0]['content']}"
    return turns


def _user(caption: str) -> Message:
    return {"role": "user", "content": f"Caption: {_shown(caption)}"}


def _shown(caption: str) -> str:
    """The caption as it is, but in valid Unicode: tokenisers refuse lone surrogates."""
    return caption.strip()[:LONGEST_CAPTION].encode(errors="replace").decode()


def _settled(tags: dict[str, list[str]], subjects: Subjects) -> dict[str, list[str]]:
    if subjects == "living":
        return tags
    moved = [tag for tag in tags.get("object", []) if tag in AGENTS]
    rest = [tag for tag in tags.get("object", []) if tag not in AGENTS]
    return {**tags, "subject": tags.get("subject", []) + moved, "object": rest}
