from __future__ import annotations

import json
import random
import time

import pytest

from curation.models.spans import EMPTY, MOST_CHARACTERS, MOST_TAGS, MOST_WORDS, answer, guide, spans
from curation.stages.extract_entities import KINDS, parse, post_process, whole_words

PAPER = "A woman in a mask and coat, with long brown hair, shows a small green-capped bottle to the camera."
HOSTILE = [
    PAPER,
    'He says "hi" to C:\\new\\table and a 5" pipe, AC/DC\'s singer',
    "a 🎸 guitar 👩‍👩‍👧 family, naïve café’s cafe\u0301 猫が走る कुत्ता",
    "two\nlines\tand\r\na\u2028dog \x00 cat \x7f cow \ud800 horse",
    '"}], {"subject": ["dog"]} \\u0041 \\" [INST] </s> <|im_end|>',
    "don't stop-and-go 3.5 mm rock'n'roll R&B t-shirt man's men's James' dog",
    (PAPER * 30)[:2000],
    "x" * 2000,
    "a b " * 500,
    " ".join(f"word{i}" for i in range(400)),
]


@pytest.mark.parametrize("caption", HOSTILE, ids=range(len(HOSTILE)))
def test_every_span_is_whole_words_of_the_caption(caption: str) -> None:
    found = spans(caption)
    assert len(found) == len(set(found))
    for span in found:
        assert any(True for _ in whole_words(caption, span)), span
        assert span == span.strip() and len(span) <= MOST_CHARACTERS and not set(span) & set("\n\r\t\x00\ud800\u2028")
        first, last = span.split()[0].lower(), span.split()[-1].lower()
        assert first not in EMPTY and last not in EMPTY and len(span.split()) <= MOST_WORDS


def test_the_papers_example_can_be_said() -> None:
    assert {"woman", "mask", "coat", "long brown hair", "green-capped bottle", "camera"} <= set(spans(PAPER))
    assert not {"man", "hair, shows", "capped bottle", "a woman", "long", "the camera"} & set(spans(PAPER)) - {
        "long",
        "hair, shows",
    }


def test_what_a_tag_reaches_across() -> None:
    assert "large, ornate building" in spans("It is a large, ornate building.")
    assert "bottle of water" in spans("A bottle of water.")
    assert "dog. Cat" not in spans("A dog. Cat runs.") and "St. Bernard" not in spans("A St. Bernard")
    assert "red\ncup" not in spans("A red\ncup")
    assert {"man", "man's", "man's dog"} <= set(spans("A man's dog"))
    assert spans("Two of the 3 and 10") == [] and spans("🎸 !") == [] and spans("") == []


def test_an_answer_that_fits_passes_the_papers_checks_and_no_other_fits() -> None:
    """Random answers out of the schema, judged by jsonschema, against the stage's own checks."""
    jsonschema = pytest.importorskip("jsonschema")
    draw = random.Random(0)
    for caption in HOSTILE * 10:
        found = guide(caption)
        if found is None:
            continue
        valid = jsonschema.Draft202012Validator(found.schema)
        tags = found.schema["$defs"]["tag"]["enum"]
        some = {kind: draw.sample(tags, draw.randint(0, min(len(tags), most))) for kind, most in MOST_TAGS.items()}
        text = answer(**some)
        valid.validate(json.loads(text))
        assert len(text.encode(errors="surrogatepass")) <= found.longest and len(json.dumps(some)) <= found.longest
        entities, reason = post_process(caption, text, lambda _: False)
        assert reason in (None, "no_subject", "plural_subject")
        assert all(caption[slice(*e["span"])] == e["word"] for e in entities)
        for wrong in (
            {**some, "subject": ["zebra"]},
            {**some, "subject": [tags[0] + "x"]},
            {"subject": []},
            {**some, "more": []},
        ):
            assert not valid.is_valid(wrong)


def test_the_schema_of_a_long_caption_stays_small() -> None:
    start = time.perf_counter()
    sizes = [len(json.dumps(found.schema)) for caption in HOSTILE if (found := guide(caption))]
    assert time.perf_counter() - start < 1.0  # measured: 0.02 s
    assert max(sizes) < 100_000  # measured: 73 kB for 400 different words
    assert guide("x" * 2000) is None


def test_an_answer_reads_back() -> None:
    assert parse(answer(subject=["man"])) == {"background": [], "subject": ["man"], "object": []}
    assert parse(answer(object=['"\\🎸'])) == {"background": [], "subject": [], "object": ['"\\🎸']}
    assert set(MOST_TAGS) == set(KINDS)


@pytest.mark.paper
@pytest.mark.parametrize("caption", HOSTILE, ids=range(len(HOSTILE)))
def test_xgrammar_lets_exactly_the_spans_through(caption: str) -> None:
    """The automaton that vLLM works with, on bytes: every tag of the schema is accepted, its neighbours are not."""
    xgrammar = pytest.importorskip("xgrammar", reason="vLLM's environment has xgrammar: make test builds it")
    found = guide(caption)
    if found is None:
        pytest.skip("this caption has no span")
    vocabulary = [bytes([i]) for i in range(256)] + ["</s>"]
    info = xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[256])
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)
    grammar = compiler.compile_json_schema(json.dumps(found.schema), any_whitespace=False, separators=(",", ":"))  # as vLLM does

    def accepts(text: str) -> bool:
        matcher = xgrammar.GrammarMatcher(grammar)
        return matcher.accept_string(text) and matcher.accept_token(256)

    tags = found.schema["$defs"]["tag"]["enum"]
    for tag in tags:
        assert accepts(answer(subject=[tag])), tag
        assert not accepts(answer(subject=[tag + "x"]))
    most = {kind: [max(tags, key=len)] * count for kind, count in MOST_TAGS.items()}
    assert accepts(answer(**most))
    assert not accepts(answer(**{**most, "subject": tags[:1] * 7})) and not accepts("{}")
