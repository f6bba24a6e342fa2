"""WordNet's nouns: what kind of thing a phrase names, whether it is a plural, and which COCO class a detector knows it by.

Works on the database files themselves: `index.noun` is sorted, so a word is found by bisection, and a synset's number is its byte
offset in `data.noun`. Nothing is parsed before it is asked for; opening takes milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEXNAMES = (
    "tops act animal artifact attribute body cognition communication event feeling food group location motive object person "
    "phenomenon plant possession process quantity relation shape state substance time"
)
LEXNAME = dict(enumerate(_LEXNAMES.split(), start=3))
"""Lexicographer classes of nouns by their number in `data.noun` (WordNet manual, lexnames(5WN))."""

SHOWN = {
    word: lexname
    for lexname, words in {
        "animal": (
            "alligator alpaca anemone bass beaver catfish chick chicken clam cock cod crab crawfish crayfish cub donkey duck "
            "duckling emu fawn flounder goose grouper halibut herring hog husky jaguar kitty lamb leopard lobster lynx "
            "mackerel mink mole mussel octopus otter oyster partridge pointer prawn pug pup quail raccoon ram robin salmon "
            "sardine scallop seal shrimp sloth snail squid swallow swift swordfish thrush tiger tit trout tuna turkey turtle "
            "wildcat yak"
        ),
        "artifact": (
            "ball baseball basketball bell board book bow brush card club crane disc display dresser dryer fan football glass "
            "grill hood kite microwave mobile monitor mug part plate printer punch punching_bag remote ring roller stand "
            "table tablet tie torch trailer train volleyball"
        ),
        "food": "donut doughnut dressing hot_dog hotdog orange peach",
        "person": "cook host pro queen",
        "plant": "branch",
    }.items()
    for word in words.split()
}
"""Words whose first sense in WordNet is not what a caption shows ("tiger": a fierce person): the class of the right one."""

ALIASES = {
    "bike": "bicycle", "cab": "taxi", "cell_phone": "cellular_telephone", "coffee_table": "table",
    "dining_table": "table", "dvd_player": "cd_player", "fireman": "firefighter", "firemen": "firefighter",
    "foal": "horse",
    "grill": "griddle", "iphone": "cellular_telephone", "kitten": "cat", "kitchen_table": "table", "lamb": "sheep",
    "media_player": "cd_player", "phone": "cellular_telephone", "potted_plant": "houseplant",
    "river_bed": "riverbed", "smart_phone": "cellular_telephone", "smartphone": "cellular_telephone", "suv": "car",
    "television": "television_receiver", "toilet": "commode", "train_car": "boxcar", "tv": "television_receiver",
    "van": "car", "wine_glass": "wineglass",
}  # fmt: skip
"""What captions call by a looser word than WordNet."""

ABSTRACT = word_set(
    "act attribute cognition communication event feeling group motive phenomenon possession process quantity relation shape "
    "state time tops"
)
"""Lexicographer classes of what cannot be seen or cut out."""

UNSURE = word_set("bat bug bumper character maker mannequin model mouse pitcher red_hot scooter star")
"""Words that name very different visible things in captions: they get no sense, so no class and no box."""

GROUPS = word_set(
    "army audience band bevy brood bunch cast choir class colony congregation couple crew crowd dozen drove duo family "
    "flock gaggle gang group herd hundreds line litter lot lots majority mob number orchestra pack pair pod pride "
    "procession quartet queue row school series set squad staff swarm team thousands trio troop troupe variety"
)
"""Heads that stand for several ("a group of dolphins")."""

IRREGULAR = {
    "children": "child", "feet": "foot", "geese": "goose", "mice": "mouse", "oxen": "ox", "teeth": "tooth",
    "people": "person", "dice": "die", "cacti": "cactus", "octopi": "octopus", "calves": "calf", "wolves": "wolf",
    "elves": "elf", "thieves": "thief", "leaves": "leaf", "loaves": "loaf", "knives": "knife", "wives": "wife",
    "shelves": "shelf", "scarves": "scarf", "halves": "half",
}  # fmt: skip
NO_SINGULAR = word_set("cattle folk folks people police poultry")
"""Plural without an ending."""
ENDINGS = {"ies": "y", "men": "man", "ches": "ch", "shes": "sh", "sses": "ss", "xes": "x", "zzes": "z", "oes": "o", "s": ""}

DEPICTIONS = word_set(
    "animated animation bronze cardboard cartoon clay drawn illustrated lego marble model origami painted paper plush "
    "porcelain sculpted stuffed toy wax"
)
"""Modifiers that make a person or an animal a picture or a figure of one."""

HUMAN_SHAPED = word_set(
    "android barbie bust character doll dummy effigy figure figurine manikin mannequin marionette minifigure puppet robot "
    "scarecrow sculpture snowman statue statuette"
)
"""Heads of what is taken for a person, and is none."""

COCO = {
    "person": "person people driver", "bicycle": "bicycle", "car": "car jeep", "motorcycle": "motorcycle",
    "airplane": "airplane", "bus": "bus minibus", "train": "train subway_train", "truck": "truck",
    "boat": "boat ship sailing_vessel yacht", "traffic light": "traffic_light", "fire hydrant": "fire_hydrant",
    "stop sign": "stop_sign", "parking meter": "parking_meter", "bench": "bench", "bird": "bird", "cat": "cat",
    "dog": "dog", "horse": "horse", "sheep": "sheep", "cow": "cow cattle bull calf", "elephant": "elephant",
    "bear": "bear", "zebra": "zebra", "giraffe": "giraffe", "backpack": "backpack", "umbrella": "umbrella",
    "handbag": "handbag", "tie": "necktie", "suitcase": "suitcase", "frisbee": "frisbee", "skis": "ski",
    "snowboard": "snowboard", "sports ball": "ball", "kite": "kite", "baseball bat": "baseball_bat",
    "baseball glove": "baseball_glove", "skateboard": "skateboard", "surfboard": "surfboard",
    "tennis racket": "tennis_racket", "bottle": "bottle", "wine glass": "wineglass", "cup": "cup mug glass",
    "fork": "fork", "knife": "knife", "spoon": "spoon", "bowl": "bowl", "banana": "banana", "apple": "apple",
    "sandwich": "sandwich", "orange": "orange", "broccoli": "broccoli", "carrot": "carrot", "hot dog": "hot_dog",
    "pizza": "pizza", "donut": "doughnut", "cake": "cake", "chair": "chair", "couch": "sofa",
    "potted plant": "houseplant", "bed": "bed", "dining table": "table", "toilet": "toilet",
    "tv": "television_receiver", "laptop": "laptop", "mouse": "computer_mouse", "remote": "remote_control",
    "keyboard": "keyboard", "cell phone": "cellular_telephone", "microwave": "microwave", "oven": "oven",
    "toaster": "toaster", "sink": "sink", "refrigerator": "refrigerator", "book": "book", "clock": "clock",
    "vase": "vase", "scissors": "scissors", "teddy bear": "teddy", "hair drier": "hand_blower",
    "toothbrush": "toothbrush",
}  # fmt: skip
"""COCO's 80 classes and the WordNet words whose whole subtree they cover."""

NO_CLASS = word_set("ambulance counter pool_table wildcat workbench")
"""Subtrees of the above that look otherwise: the search for a class ends there."""

CAR_MAKES = word_set(
    "audi bentley bmw bugatti buick cadillac chevrolet chevy chrysler corvette dodge ferrari fiat ford honda hyundai "
    "infiniti jeep kia lamborghini lexus maserati mazda mclaren mercedes mitsubishi nissan porsche royce subaru suzuki "
    "tesla toyota volkswagen volvo"
)
CAR_MODELS = word_set(
    "accord beetle benz bronco camaro camry challenger charger civic cobra corolla defender explorer focus impala mustang "
    "ranger raptor sentinel tacoma viper wrangler"
)


PREPOSITIONS = word_set("at by for from in near of on with")


class Synset(NamedTuple):
    """One sense: its class, its words as the file spells them, the synsets it is a kind (or an instance) of."""

    lexname: str
    words: tuple[str, ...]
    hypernyms: tuple[int, ...]


class WordNet:
    """Nouns of WordNet 3.1 from a folder with `index.noun` and `data.noun`. Phrases are free text of any case; heads are last."""

    def __init__(self, folder: Path):
        self._index = (Path(folder) / "index.noun").read_bytes()
        self._data = (Path(folder) / "data.noun").read_bytes()
        self.senses = cache(self._senses)
        self.synset = cache(self._synset)
        self.head = cache(self._head)

    def is_person(self, phrase: str) -> bool:
        """Whether the head names one or more real people ("chef", "young girls"); an imaginary being or a picture is none."""
        return self._is_a(phrase, self._person) and not depicted(phrase)

    def looks_human(self, phrase: str) -> bool:
        """Whether the head names who or what has a person's shape: people, imaginary and drawn ones, dolls, statues."""
        return self.lexname(phrase) == "person" or self._is_a(phrase, self._person) or bool(head_forms(phrase) & HUMAN_SHAPED)

    def is_animal(self, phrase: str) -> bool:
        """Whether the head names an animal or several."""
        return self._is_a(phrase, self._animal) and not depicted(phrase)

    def is_being(self, phrase: str) -> bool:
        """Person, animal, or an imaginary one ("monster", "witch"), real or depicted."""
        return self.lexname(phrase) == "person" or self._is_a(phrase, self._person | self._animal)

    def is_vehicle(self, phrase: str) -> bool:
        """Whether it can move by itself: a motor vehicle, a train, a ship, an aircraft."""
        return self._is_a(phrase, self._vehicle)

    def is_plural(self, phrase: str) -> bool:
        """Whether the head's form, or the head itself ("a crowd"), stands for more than one. "sheep" alone does not tell."""
        word = head_words(phrase)[-1:]
        if not word:
            return False
        if word[0] in GROUPS or word[0] in NO_SINGULAR or word[0] in IRREGULAR:
            return True
        single = next((s for s in singulars(word[0]) if self.senses(s)), None)
        return single is not None and (not self.senses(word[0]) or self.is_being(single))

    def to_coco(self, phrase: str) -> str | None:
        """The COCO-80 class a detector knows the phrase by: "golden retriever dog" → "dog"; None when there is none or doubt."""
        found = self.head(phrase)
        if found is None or (depicted(phrase) and self.is_being(phrase)):
            return None
        return next((self._classes[s] for s in self.ancestors(found) if s in self._classes), None)

    def lexname(self, phrase: str) -> str | None:
        """Lexicographer class ("artifact", "time", …) of the phrase's head; None for an unknown or unsure word."""
        found = self.head(phrase)
        return None if found is None else self.synset(found).lexname

    def ancestors(self, synset: int) -> Iterator[int]:
        """The synset and all it is a kind of, nearest first."""
        seen, queue = {synset}, [synset]
        for node in queue:
            yield node
            new = [h for h in self.synset(node).hypernyms if h not in seen]
            seen.update(new)
            queue += new

    def _is_a(self, phrase: str, kinds: frozenset[int]) -> bool:
        found = self.head(phrase)
        return found is not None and not kinds.isdisjoint(self.ancestors(found))

    def _head(self, phrase: str) -> int | None:
        """The synset of the longest ending of the phrase that WordNet knows: "hot dog" before "dog"."""
        words = head_words(phrase)
        if words and (words[-1] in CAR_MAKES or (words[-1] in CAR_MODELS and words[-2:-1] and words[-2] in CAR_MAKES)):
            words = ["car"]
        for first in range(len(words)):
            stem = words[first:-1]
            keys = ["_".join([*stem, last]) for last in (words[-1], *singulars(words[-1]))]
            if not UNSURE.isdisjoint(keys):
                return None
            found = [s for key in keys if (s := self._shown(ALIASES.get(key, key))) is not None]
            if found:  # "shoes" (a state) gives way to "shoe", "glasses" stays
                return next((s for s in found if self.synset(s).lexname not in ABSTRACT), found[0])
        return None

    def _shown(self, key: str) -> int | None:
        senses = self.senses(key)
        common = [s for s in senses if key in self.synset(s).words] or senses  # "crane" is not Stephen Crane
        return next((s for s in common if self.synset(s).lexname == SHOWN.get(key)), common[0] if common else None)

    def _senses(self, key: str) -> tuple[int, ...]:
        """Synsets of one lower-case word (spaces as underscores), the most frequent first; empty if unknown."""
        target, low, high = key.encode() + b" ", 0, len(self._index)
        while low < high:  # bisect over bytes; low always starts a line
            middle = self._index.rfind(b"\n", low, (low + high) // 2) + 1 or low
            line = self._index[middle : self._index.find(b"\n", middle)]
            if line[:1] == b" " or line < target:  # lines of the licence start with a blank
                low = middle + len(line) + 1
            elif line.startswith(target):
                fields = line.split()
                return tuple(map(int, fields[-int(fields[2]) :]))
            else:
                high = middle
        return ()

    def _synset(self, offset: int) -> Synset:
        fields = self._data[offset : self._data.index(b" | ", offset)].decode().split()
        words = 4 + 2 * int(fields[3], 16)
        pointers = fields[words + 1 : words + 1 + 4 * int(fields[words])]
        hypernyms = tuple(int(to) for kind, to in zip(pointers[::4], pointers[1::4], strict=True) if kind in ("@", "@i"))
        return Synset(LEXNAME[int(fields[1])], tuple(fields[4:words:2]), hypernyms)

    @cached_property
    def _classes(self) -> dict[int, str | None]:
        named = {self.known(word): name for name, words in COCO.items() for word in words.split()}
        return named | {self.known(word): None for word in NO_CLASS}

    @cached_property
    def _person(self) -> frozenset[int]:
        return frozenset(map(self.known, ("person", "people", "driver")))

    @cached_property
    def _animal(self) -> frozenset[int]:
        return frozenset({self.known("animal")})

    @cached_property
    def _vehicle(self) -> frozenset[int]:
        return frozenset(map(self.known, ("self-propelled_vehicle", "public_transport", "ship", "boat", "aircraft")))

    def known(self, word: str) -> int:
        """The synset of a word that must be there: another file than WordNet's fails here, by name."""
        found = self.head(word.replace("_", " "))
        if found is None:
            raise KeyError(f"WordNet has no noun {word!r}: are index.noun and data.noun those of WordNet 3.1?")
        return found


def head_words(phrase: str) -> list[str]:
    """Lower-case words up to the head: "cup of tea" → ["cup"], "group of young girls" → ["young", "girls"]."""
    words = re.sub(r"['’]s?(?=\s)", "", phrase.lower()).split()
    while "of" in words[1:-1] and words[words.index("of") - 1] in GROUPS:
        words = words[words.index("of") + 1 :]
    end = next((i for i, word in enumerate(words) if i and word in PREPOSITIONS), None)
    return words[:end]


def head_forms(phrase: str) -> set[str]:
    """The head, lower case, and what it may be the plural of."""
    return {form for word in head_words(phrase)[-1:] for form in (word, *singulars(word))}


def depicted(phrase: str) -> bool:
    """Whether a modifier says that it is a picture or a figure ("stuffed bear", "cartoon dog")."""
    return not DEPICTIONS.isdisjoint(head_words(phrase)[:-1])


def singulars(word: str) -> list[str]:
    """Words this one may be the plural of, the likeliest first; the dictionary decides."""
    if word in IRREGULAR:
        return [IRREGULAR[word]]
    if len(word) < 3 or word.endswith("ss"):
        return []
    return [word.removesuffix(ending) + single for ending, single in ENDINGS.items() if word.endswith(ending)]
