"""Which words of the caption name a subject, an object or the background."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from curation.faults import DataError
from curation.models.llm import Unanswerable
from curation.sample import Sample
from curation.stage import Reject, Resources, Result, Stage
from curation.store import store

KINDS = ("subject", "object", "background")
Answer = str | dict[str, list[str]] | Exception
"""Of a namer to one caption: a language model's text, a dict of the three lists, or why there is none."""
Entity = dict[str, Any]
"""{"word": str, "kind": one of KINDS, "span": [first, last)} with `caption[first:last] == word`."""

RECLASSIFIED: dict[str, str] = dict.fromkeys(
    ("cloud", "clouds", "fog", "ground", "horizon", "mist", "ocean", "sea", "skies", "sky", "sunrise", "sunset"), "background"
)
"""A tag's kind by its last word, whatever it was named as. "cloud" is the paper's example (PAPER.md §1.5), the rest ours."""

SEVERAL = re.compile(
    r"(?:\b(?:two|three|four|five|six|seven|eight|nine|ten|[2-9]|\d{2,}|both|few|many|multiple|numerous|several|various)\s+"
    r"(?:\w+\s+)?"
    r"|\b(?:bunch|couple|crowd|flock|group|herd|lots?|number|pack|pair|pod|row|school|swarm|team)\s+of\s+(?:[\w-]+\s+){0,2})$",
    re.IGNORECASE,
)
"""What before a word makes it several, also where its form does not tell ("a school of fish", "two sheep")."""

MEMORY = {"rules": 0.5, "mistral": 6.0, "endpoint": 0.5}
"""GB of a worker. rules: measured, 0.4. mistral: estimated for a GPU, whose 14.5 of checkpoint pass through by parts."""
UNITS = 4
"""Units that a language model has at once: of 64 clips as in the recipes, they fill the 256 sequences of vLLM on a GPU."""
LONGEST_ANSWER = 10_000
"""Characters of a model's raw answer that are looked at; the answers are below 500. Not stated by the paper."""


@dataclass(kw_only=True)
class ExtractEntities(Stage):
    """Name the caption's entities; reject clips without a subject, or with one that is several (PAPER.md §1.4 and §1.5)."""

    model: Annotated[str, Field(pattern=r"^(rules|mistral|https?://[^\s@]+)$")] = "rules"
    """Who names them: "rules" = noun chunks and WordNet; "mistral" = Mistral-7B in vLLM (PAPER.md §1.4); a URL = what
    an OpenAI-compatible endpoint serves ("http://host:8000/v1")."""
    weights: str | None = None
    """A folder with another model for vLLM instead of the store's (with model: mistral)."""
    served_model: str | None = None
    """The model's name at the endpoint; null takes the only one it serves."""
    guided: bool = True
    """A language model's answer is held to valid JSON whose tags are spans of the caption; the paper's checks run either way."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens of a language model's answer without the guide; with it, the answer ends by itself."""
    timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds an endpoint has for one answer, before it is asked again."""
    instruction: str | None = None
    """A text file with what a language model is told instead of our own instruction: UTF-8, `{caption}` stands once, where the
    caption goes; nothing else in it is replaced. With it, what a subject is is said there, not by `subjects`."""
    subjects: Literal["living", "agent"] = "living"
    """What a subject is: "living" = a human or an animal (PAPER.md §1.4); "agent" = also a vehicle that a sentence is about."""
    plural_subjects: Literal["drop", "keep"] = "drop"
    """A plural subject rejects the clip ("drop", PAPER.md §1.5), or is an entity like others ("keep")."""

    resources = Resources(batch=256, memory=MEMORY["rules"])
    reads = ("caption",)
    served = ""
    told = ""
    engine = None  # type: Any

    def __post_init__(self) -> None:
        if self.instruction and self.model == "rules":
            raise ValueError("`instruction` is what a language model is told, and `model: rules` is none")
        self.resources = Resources(batch=256, memory=MEMORY.get(self.model, MEMORY["endpoint"]))  # type: ignore[misc]

    def models(self) -> tuple[str, ...]:
        if self.model == "rules":
            return ("spacy-en", "wordnet")
        return ("wordnet", "mistral-7b-instruct") if self.model == "mistral" and self.weights is None else ("wordnet",)

    def own_files(self) -> dict[str, str | Path]:
        return {**super().own_files(), **({"instruction": self.instruction} if self.instruction else {})}

    def resolve(self) -> None:
        """Read the instruction, so that it travels with the stage."""
        from curation.models.instruction import CAPTION

        if path := self.own_files().get("instruction"):
            try:
                self.told = Path(path).expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise store.StoreError(f"extract_entities.instruction: {path}: {error}") from error
            if self.told.count(CAPTION) != 1:
                raise store.StoreError(f"extract_entities.instruction: {path} must hold {CAPTION} once, where the caption goes")

    def units(self) -> int:
        return 1 if self.model == "rules" else UNITS

    def load(self) -> None:
        from curation.models.wordnet import WordNet

        wordnet = WordNet(store.path("wordnet"))
        self.is_plural = wordnet.is_plural
        self.namer: Callable[[Sequence[str]], Sequence[Answer]]
        if self.model == "rules":
            from curation.models.nouns import Nouns

            self.namer = Nouns(store.path("spacy-en"), wordnet, self.subjects)
        else:
            self.namer = self._language_model()

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()

    def _language_model(self) -> Callable[[Sequence[str]], Sequence[Answer]]:
        from curation.models.llm import Asker

        self.engine = self._vllm() if self.model == "mistral" else self._endpoint()
        return Asker(self.engine, guided=self.guided, max_tokens=self.max_tokens, subjects=self.subjects, told=self.told)

    def _vllm(self) -> Any:
        from curation.models import device
        from curation.models.llm import Vllm

        if not self.share and device.pick(1.0) == "cuda":
            raise store.StoreError("extract_entities: vLLM takes this machine's GPU, and no share of it is meant: set `gpus`")
        folder = Path(self.weights).expanduser() if self.weights else store.path("mistral-7b-instruct")
        return Vllm(folder, device.pick(self.share), memory=min(self.share, 0.9))

    def _endpoint(self) -> Any:
        from curation.models.endpoint import Endpoint

        endpoint = Endpoint(self.model, self.served_model, timeout=self.timeout)
        self.served = endpoint.model
        return endpoint

    def _about(self) -> dict[str, Any]:
        """Who answered, for the metadata."""
        asked = {} if self.model == "rules" else {"guided": self.guided}
        return {"model": self.model, **({"served_model": self.served} if self.served else {}), **asked}

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """One call of the namer for the captions of all samples that have one."""
        answers = iter(self.namer([s.caption for s in samples if s.caption.strip()]))
        return [self._settled(s, next(answers)) if s.caption.strip() else self._without_caption(s) for s in samples]

    def _settled(self, sample: Sample, answer: Answer) -> Result:
        if isinstance(answer, Unanswerable):
            return DataError("unanswerable", str(answer))
        if isinstance(answer, Exception):
            return answer
        entities, reason = post_process(sample.caption, answer, self.is_plural)
        sample.meta[self.name] = {**self._about(), "entities": entities}
        if reason in ("invalid_answer", "tag_not_in_caption"):
            sample.meta[self.name]["answer"] = str(answer)[:LONGEST_ANSWER]
        if reason is None or (reason == "plural_subject" and self.plural_subjects == "keep"):
            return sample
        return Reject(reason)

    def _without_caption(self, sample: Sample) -> Result:
        sample.meta[self.name] = {**self._about(), "entities": []}
        return Reject("no_caption")


def post_process(caption: str, answer: Answer, is_plural: Callable[[str], bool]) -> tuple[list[Entity], str | None]:
    """The paper's checks in its order (PAPER.md §1.5) on a namer's raw answer.

    Gives the entities in caption order, and the reason to reject or None: "invalid_answer" (no dict of three lists of strings),
    "tag_not_in_caption", "no_subject", "plural_subject".
    """
    tags = parse(answer)
    if tags is None:
        return [], "invalid_answer"
    entities = locate(caption, tags)
    if entities is None:
        return [], "tag_not_in_caption"
    for entity in entities:
        entity["kind"] = RECLASSIFIED.get(entity["word"].lower().split()[-1], entity["kind"])
    subjects = [e for e in entities if e["kind"] == "subject"]
    if not subjects:
        return entities, "no_subject"
    if any(is_plural(e["word"]) or SEVERAL.search(caption, max(0, e["span"][0] - 60), e["span"][0]) for e in subjects):
        return entities, "plural_subject"
    return entities, None


def parse(answer: Answer) -> dict[str, list[str]] | None:
    """The answer as {"subject": […], "object": […], "background": […]}, from a text's JSON or Python literal, or None."""
    value: Any = answer
    if isinstance(answer, str):
        text = answer[:LONGEST_ANSWER]
        value = literal(text[text.find("{") : text.rfind("}") + 1])
    if not isinstance(value, dict) or value.keys() != set(KINDS):
        return None
    if not all(isinstance(tags, list) and all(isinstance(tag, str) for tag in tags) for tags in value.values()):
        return None
    return value


def literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def locate(caption: str, tags: dict[str, list[str]]) -> list[Entity] | None:
    """Each tag at its own whole-word place in the caption, in caption order; None when one is not there ("man" in "woman").

    Long tags choose first, so that "dog" is not found inside "hot dog". Empty tags, and a tag named more often than written, go.
    """
    named = [(word.strip(), kind) for kind in KINDS for word in tags[kind] if word.strip()]
    places = {
        word: sorted(whole_words(caption, word), key=lambda place: is_part(caption, *place)) for word in {w for w, _ in named}
    }
    if not all(places.values()):
        return None
    taken = bytearray(len(caption))
    entities: dict[tuple[int, int], Entity] = {}
    for word, kind in sorted(named, key=lambda tag: -len(tag[0])):
        free = [place for place in places[word] if place not in entities]
        first, last = next((place for place in free if not any(taken[slice(*place)])), free[0] if free else (0, 0))
        places[word] = free
        if last:
            entities[first, last] = {"word": word, "kind": kind, "span": [first, last]}
            taken[first:last] = b"\1" * (last - first)
    return [entities[place] for place in sorted(entities)]


def whole_words(caption: str, word: str) -> Iterator[tuple[int, int]]:
    """Where the word stands, not as a piece of another word."""
    return (match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", caption))


def is_part(caption: str, first: int, last: int) -> bool:
    """Whether it stands there only as an owner or within a hyphen: second choice ("man" in "the man's dog and another man")."""
    return caption[max(0, first - 1) : first] == "-" or caption[last : last + 1] in ("-", "'", "’")
