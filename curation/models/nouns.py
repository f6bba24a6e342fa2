"""Entity words of a caption from its noun chunks and WordNet: who (subject), what (object), where (background)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from curation.models.wordnet import ABSTRACT, GROUPS, WordNet, singulars, word_set

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

Kind = Literal["subject", "object", "background"]
KINDS: tuple[Kind, ...] = ("subject", "object", "background")

LONGEST_TEXT = 2000
"""Characters of a caption that are parsed, cut at a space: a paragraph. Not stated by the paper."""
LONGEST_TAG = 60
"""Characters of a tag; longer chunks are a parser's confusion. Not stated by the paper."""

QUANTIFIERS = word_set(
    "additional another both different each every few first last many more most multiple next numerous other own same "
    "second several single some third various"
)
AGES = word_set("day month week year")
SIZES = word_set("big huge large small tiny")
"""Left out, as the paper's example does ("a small green-capped bottle" → "green-capped bottle")."""

PARTS = GROUPS | word_set(
    "aerial animation bit bite cartoon clip close-up closeup footage illustration image kind part photo photograph picture "
    "piece portion render rendering scene screenshot selection shot side slice type up video view"
)
"""Heads whose "of" phrase is what is seen ("a close up of a cat", "a slice of cake", "a rendering of a plane"). A painting or a
statue of somebody is an object, and nobody is there."""
FIGURES = word_set("drawing figurine model mural painting poster puppet sculpture sketch statue toy")

SKIPPED = word_set(
    "air angle backflip background bottom center centre close close-up closeup corner direction distance edge end flip "
    "footage foreground front half left lot middle motion place rear right scene setting shot side something thing time top "
    "transportation use video view way work"
)
CAMERAS = word_set("audience camera lens viewer")
"""Not seen when looked at or spoken to ("talks to the camera")."""

SEEN = word_set(
    "banner billboard book clothes clothing column costume document fire flag flame flower furniture hair label letter logo "
    "magazine makeup map newspaper note painting picture plant poster rainbow scoreboard sign smoke sticker symbol tattoo "
    "text trash water wave yarn"
)
"""Of an abstract class in WordNet, but visible and separable."""

PLACES = word_set(
    "alley aquarium area arena backyard beach ceiling city cityscape cliff cloud coast corridor countryside court courtyard "
    "desert driveway farm field floor forest freeway garage garden ground gym hall hallway harbor harbour highway hill "
    "hillside horizon indoors intersection island jungle kitchen lagoon lake landscape lawn lobby market meadow mountain "
    "neighborhood ocean outdoors park path pathway pavement playground plaza pond pool racetrack rainforest range river "
    "road room runway scenery sea shore shoreline sidewalk skatepark sky skyline slope space stadium stage store stream "
    "street studio suburb terrain town track trail tunnel valley village wall waterfall wilderness woods yard zoo"
)
"""Background wherever they stand; the paper's own example is "cloud"."""
PLACE_ROOTS = ("room", "geological_formation", "body_of_water", "road", "tract", "city", "country")
SETTINGS = word_set(
    "bridge building bush castle dirt dune fence grass gravel greenery house ice mud nightclub office restaurant rock ruin "
    "sand school shop smoke snow structure tower tree vegetation water wave"
)
SETTING_ROOTS = ("building", "building_complex", "bridge", "facility", "tree", "soil")
"""Background where a preposition of place says that something is there; else an object ("pours water")."""
PLACING = word_set(
    "above across against along alongside amid among around at behind below beneath beside between by down in inside into "
    "near off on onto outside over past through throughout to toward towards under underneath up within"
)
BEHIND = re.compile(r"(?:(?:,| and)[\w ,-]{0,40})? in the (?:background|distance)", re.IGNORECASE)

CROWDS = word_set("audience band choir couple crew crowd family orchestra team troupe")
"""Several people in one word."""
ROLES = word_set("anchor model mouse pitcher")
"""A living thing when it acts, a thing when acted upon."""
EDIBLE = word_set(
    "chicken clam cod crab duck fish goose lamb lobster mackerel mussel octopus oyster prawn salmon sardine scallop shrimp "
    "squid trout tuna turkey"
)
COOKED = word_set("baked barbecued boiled breaded cooked crispy dried fried grilled raw roast roasted smoked steamed")
PARTICIPLES = word_set(
    "carrying dancing doing driving eating flying holding looking lying making playing riding running sitting smiling "
    "standing talking using walking wearing"
)
"""Verbs that the parser at times takes into a noun phrase ("a cobblestone street holding umbrellas")."""
DISHES = word_set("bowl dish grill oven pan plate platter pot salad sandwich skillet soup tray wok")
COOKING = re.compile(
    r"(?:bak|boil|chop|clean|cook|cut|dip|eat|fill|fr[iy]|grill|marinat|prepar|roast|season|serv|slic|steam|stir)\w*|ma[dk]\w+"
)


class Mention(NamedTuple):
    """A tag and its place: `caption[first:last] == word`."""

    word: str
    kind: Kind
    first: int
    last: int


def _spacy() -> Any:
    """spaCy without PyTorch, which it imports where it finds it (2.4 s of CPU) and which no model here computes with."""
    if "torch" in sys.modules:
        import spacy
    else:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say: there is none
        try:
            import spacy
        finally:
            del sys.modules["torch"]
    return spacy


class Nouns:
    """Names entities by rules. `subjects`: "living" = people and animals (PAPER.md §1.4), "agent" = vehicles too."""

    def __init__(self, spacy_folder: Path, wordnet: WordNet, subjects: Literal["living", "agent"] = "living"):
        self.parse = _spacy().load(spacy_folder, exclude=["ner", "lemmatizer", "senter"])
        self.wordnet = wordnet
        self.vehicles = subjects == "agent"
        self.places = frozenset(map(wordnet.known, PLACE_ROOTS))
        self.settings = frozenset(map(wordnet.known, SETTING_ROOTS))

    def __call__(self, captions: Sequence[str]) -> list[dict[str, list[str]]]:
        """One answer per caption, as a language model gives it: {"subject": [word, …], "object": …, "background": …}."""
        return [{kind: [m.word for m in found if m.kind == kind] for kind in KINDS} for found in self.mentions(captions)]

    def mentions(self, captions: Sequence[str]) -> list[list[Mention]]:
        """Tags with their places, in the order of the text. Only the first `LONGEST_TEXT` characters are read."""
        return [self._mentions(doc, text) for doc, text in zip(self.parse.pipe(map(readable, captions)), captions, strict=True)]

    def _mentions(self, doc: Doc, caption: str) -> list[Mention]:
        found: list[Mention] = []
        known: set[str] = set()  # heads so far: "the man" is the man before
        for span, head, place in self._spans(doc):
            kind = self._kind(doc, span, head, place)
            first, last = span.start_char, span.end_char
            if kind is None or last - first > LONGEST_TAG:
                continue
            name = min(forms(head), key=len)
            if name in known and refers_back(place):
                continue
            known.add(name)
            found.append(Mention(caption[first:last], kind, first, last))
        return found

    def _spans(self, doc: Doc) -> Iterator[tuple[Span, Token, Token]]:
        """Noun phrases without what goes before the noun proper, each with its head and its stand-in in the sentence.

        An owner of a body part is a phrase of its own. Where a verb has slipped in, what goes before it is one too.
        """
        for chunk in doc.noun_chunks:
            head, first = chunk.root, chunk.start
            if head.pos_ == "PRON" or not head.text[-1:].isalnum():
                continue
            verb = next((t for t in chunk[1:] if self._is_stray_verb(t)), None)
            if verb is not None:
                yield trimmed(doc, first, verb.i - 1), verb.nbor(-1), head
                first = verb.i + 1
                if verb == head:
                    continue
            owner = next((t for t in head.children if t.dep_ == "poss" and t.pos_ in ("NOUN", "PROPN")), None)
            if owner is not None and self.wordnet.lexname(head.text) == "body":
                yield trimmed(doc, first, owner.i), owner, owner
                first = owner.i + 2
            water = head.lower_ == "body" and doc[head.i + 1 : head.i + 3].text.lower() == "of water"
            yield trimmed(doc, first, head.i + 2 * water), head, head

    def _is_stray_verb(self, token: Token) -> bool:
        """Whether the parser took a verb for a noun: "street holding umbrellas", "a swan glides"."""
        before = token.nbor(-1)
        if token.lower_ in PARTICIPLES:
            return before.pos_ in ("NOUN", "PROPN")
        finite = token.tag_ == "NNS" and before.tag_ == "NN" and self.wordnet.lexname(token.text) in ABSTRACT | {None}
        return finite and self.wordnet.is_being(before.text)

    def _kind(self, doc: Doc, span: Span, head: Token, place: Token) -> Kind | None:
        words, phrase = forms(head), span.text
        if phrase.lower() != "background" and head.lower_ == "background":
            return "background"  # "a black background"
        of = next((t for t in head.children if t.lower_ == "of"), None)
        if head.lower_ == "body" and phrase.lower().endswith("of water"):
            return "background"
        if top_noun(place) == "body" and head.lower_ == "water":
            return None
        if (of is not None and words & PARTS) or self._of_figure(place):
            return None
        if self._is_subject(phrase, place, words):
            return "subject"
        if words & SKIPPED or (words & CAMERAS and preposition(place) in ("to", "at", "into", "toward", "towards", "for")):
            return None
        if words & PLACES or self._is_a(phrase, self.places):
            return "background"
        if words & SETTINGS or self._is_a(phrase, self.settings):
            placed = preposition(place) in PLACING or BEHIND.match(doc.text, span.end_char)
            return "background" if placed else "object"
        if BEHIND.match(doc.text, span.end_char):
            return "background"
        if words & SEEN:
            return "object"
        return None if self.wordnet.lexname(phrase) in ABSTRACT or not re.search(r"[A-Za-z]{2}", head.text) else "object"

    def _is_subject(self, phrase: str, place: Token, words: set[str]) -> bool:
        if words & EDIBLE and is_food(place):
            return False
        if "character" in words or (words & CROWDS and role(place) not in ("to", "at", "into")):
            return True
        if words & ROLES:
            return role(place) in ("nsubj", "attr", "ROOT") and not any(t.lower_ == "of" for t in place.children)
        moves = self.vehicles and self.wordnet.is_vehicle(phrase) and role(place) in ("nsubj", "attr", "ROOT", "of")
        return moves or self.wordnet.is_being(phrase)

    def _of_figure(self, head: Token) -> bool:
        """Whether it is only what a painting or a statue shows."""
        return bool({top_noun(head), *singulars(top_noun(head))} & FIGURES)

    def _is_a(self, phrase: str, kinds: frozenset[int]) -> bool:
        found = self.wordnet.head(phrase)
        return found is not None and not kinds.isdisjoint(self.wordnet.ancestors(found))


def readable(caption: str) -> str:
    """What the parser gets, place for place: spaces for line breaks and for words longer than any tag, no more than is read."""
    text = re.sub(r"\s", " ", caption)
    if len(text) > LONGEST_TEXT:
        text = text[: text.rfind(" ", 0, LONGEST_TEXT) + 1]
    return re.sub(rf"\S{{{LONGEST_TAG},}}", lambda run: " " * len(run[0]), text)


def trimmed(doc: Doc, first: int, last: int) -> Span:
    """The phrase from its first word that is no determiner, quantifier or size; a "two" of "two-year-old" stays."""
    while first < last and is_extra(doc[first]):
        follower = doc[first + 1]
        if follower.lower_ in AGES or not (doc[first].whitespace_ or follower.text == ","):
            break
        first += 1
    return doc[first : last + 1]


def is_extra(token: Token) -> bool:
    return (
        token.pos_ in ("DET", "PRON", "NUM", "PUNCT", "CCONJ", "SPACE", "ADV", "PART")
        or token.tag_ in ("PRP$", "POS")
        or token.lower_ in QUANTIFIERS
        or token.lower_ in SIZES
    )


def forms(token: Token) -> set[str]:
    """The word, lower case, and what it may be the plural of."""
    return {token.lower_, *singulars(token.lower_)}


def chief(token: Token) -> Token:
    """The first of "a mask and a coat": the others stand where it stands."""
    while token.dep_ == "conj" and token.head.pos_ in ("NOUN", "PROPN"):
        token = token.head
    return token


def preposition(token: Token) -> str:
    """The preposition the phrase hangs on, through "front of" and "group of"; "" for none."""
    top = chief(token)
    while top.dep_ == "pobj" and top.head.lower_ == "of" and forms(top.head.head) & (PARTS | SKIPPED | PLACES):
        top = chief(top.head.head)
    return top.head.lower_ if top.dep_ in ("pobj", "pcomp") else ""


def top_noun(token: Token) -> str:
    """The noun it belongs to by "of": "statue" for the man of "a statue of a man"; "" for none."""
    top = chief(token)
    return top.head.head.lower_ if top.dep_ == "pobj" and top.head.lower_ == "of" else ""


def role(token: Token) -> str:
    """Gives "nsubj", "attr" or "ROOT" for what a clause is about, else the preposition, else the dependency."""
    top = chief(token)
    if top.dep_ in ("nsubj", "nsubjpass"):
        return "nsubj"
    return preposition(token) or top.dep_


def refers_back(token: Token) -> bool:
    """Whether it is "the man", "this dog": one that was named before."""
    return any(t.dep_ == "det" and t.lower_ in ("the", "this", "that", "these", "those") for t in token.children)


def is_food(head: Token) -> bool:
    """Whether an edible animal is on the table: cooked, or what a cooking verb or a dish holds."""
    if any(t.lower_ in COOKED for t in head.children):
        return True
    top = chief(head)
    around = islice(top.ancestors, 3) if top.dep_ != "nsubj" else ()
    return any(COOKING.fullmatch(t.lower_) or forms(t) & DISHES for t in around)
