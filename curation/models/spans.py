"""What a language model may answer about a caption: a JSON Schema whose tags are spans of that very caption, letter by letter."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MOST_TAGS = {"background": 4, "subject": 6, "object": 10}
"""Lists of an answer in the paper's order (PAPER.md §1.4), and the most tags in each. The numbers are not stated by the paper."""
MOST_WORDS, MOST_CHARACTERS = 6, 64
"""Of one tag. Not stated by the paper; its longest is "long brown hair"."""
WORDS_READ = 300
"""Words from the caption's beginning that a tag may come from, so that the schema of a caption of any length is small."""

WORD = re.compile(r"\w+(?:[-'’&]\w+|\.\d\w*)*")
POSSESSIVE = re.compile(r"['’]s?$")
UNCROSSED = re.compile(r"[.!?;:…]\s|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|.{4}", re.DOTALL)
"""What no tag reaches across: the end of a sentence or a clause, a line's end, or four characters that are no word."""

EMPTY_WORDS = """
a an the this that these those some any no every each all both another other his her its their my your our
one two three four five six seven eight nine ten many several few multiple various numerous different
and or but of in on at to by for from with without into onto over under near behind beside between through around across
along while as than is are was were be been being has have had there it he she they who which where what very
"""
EMPTY = frozenset(EMPTY_WORDS.split())
"""No tag begins or ends with one of these, nor with a number: a tag is a noun without any quantifier (PAPER.md §1.4)."""


@dataclass(frozen=True)
class Guide:
    """What an answer has to look like. `longest`: bytes of the longest one, so tokens of it at most."""

    schema: dict[str, Any]
    longest: int


def spans(caption: str) -> list[str]:
    """Every span of whole words that a tag may be, each once, in the order of the caption."""
    words = list(WORD.finditer(caption))[:WORDS_READ]
    apart = [bool(UNCROSSED.search(caption[a.end() : b.start()])) for a, b in zip(words, words[1:], strict=False)]
    found: dict[str, None] = {}
    for i, first in enumerate(words):
        if _is_empty(first[0]):
            continue
        for j, last in enumerate(words[i : i + MOST_WORDS], i):
            if (j > i and apart[j - 1]) or last.end() - first.start() > MOST_CHARACTERS:
                break
            if not _is_empty(last[0]):
                found |= dict.fromkeys(caption[first.start() : last.start() + len(word)] for word in _endings(last[0]))
    return list(found)


def _is_empty(word: str) -> bool:
    """Whether the word can only stand inside a tag."""
    return word.lower() in EMPTY or word.isdecimal()


def _endings(word: str) -> list[str]:
    """A word and what it names when it is an owner: "man's" and "man"."""
    return list(dict.fromkeys((POSSESSIVE.sub("", word), word)))


def guide(caption: str) -> Guide | None:
    """The schema of an answer about this caption; None when no span of it can be a tag.

    JSON Schema, because every OpenAI-compatible server takes it and vLLM makes the same automaton of it as of a grammar.
    """
    tags = spans(caption)
    if not tags:
        return None
    lists = {kind: {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": most} for kind, most in MOST_TAGS.items()}
    schema = {
        "$defs": {"tag": {"type": "string", "enum": tags}},
        "type": "object",
        "properties": lists,
        "required": list(lists),
        "additionalProperties": False,
    }
    tag = max(len(json.dumps(tag)) + tag.count("/") for tag in tags)  # escaped in any way that a server may choose
    return Guide(schema, len(answer()) + sum(MOST_TAGS.values()) * (tag + len(", ")))


def answer(**tags: list[str]) -> str:
    """An answer as a model is to write it, without the spaces that a guided one has not; what is not given is empty."""
    return json.dumps({kind: tags.get(kind, []) for kind in MOST_TAGS}, ensure_ascii=False, separators=(",", ":"))
