from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curation.faults import is_infrastructure
from curation.models import device
from curation.models.llm import Asker, EngineError, Question, Unanswerable, Vllm
from curation.models.spans import answer
from curation.models.wordnet import WordNet
from curation.stages.extract_entities import post_process
from curation.store import store
from tests import tiny

CAPTIONS = [
    "A woman in a mask and coat, with long brown hair, shows a small green-capped bottle to the camera.",
    'A man says "hi" to C:\\x.',
    "A 🎸 player and a naïve café's cat 猫.",
    "A dog\nand a cat",
    "x" * 300,
    "",
    "A red car. " * 150,
]


class Parrot:
    """Answers with what it was shown last; fails on "bad"; remembers every question."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __call__(self, questions: Sequence[Question]) -> list[str | Exception]:
        self.asked += questions
        said = [q.messages[-1]["content"].removeprefix("Caption: ") for q in questions]
        return [Unanswerable("bad") if text == "bad" else text for text in said]


def test_equal_captions_are_asked_once() -> None:
    parrot = Parrot()
    asker = Asker(parrot)
    assert asker(["a dog", "a cat", "a dog"]) == ["a dog", "a cat", "a dog"] and len(parrot.asked) == 2
    assert asker([]) == [] and len(parrot.asked) == 2


def test_what_is_asked_is_up_to_the_knobs() -> None:
    parrot = Parrot()
    for knobs in ({}, {"guided": False}, {"guided": False, "max_tokens": 9}, {"subjects": "agent"}):
        Asker(parrot, **knobs)(["a dog"])  # type: ignore[arg-type]
    assert [q.schema is None for q in parrot.asked] == [False, True, True, False] and parrot.asked[2].max_tokens == 9
    assert parrot.asked[0].messages != parrot.asked[3].messages


def test_an_error_is_one_captions() -> None:
    good, bad = Asker(Parrot())(["good", "bad"])
    assert good == "good" and isinstance(bad, Unanswerable)


def test_a_caption_without_a_span_is_not_asked_about() -> None:
    parrot = Parrot()
    assert Asker(parrot)(["🎸 !", "a dog"]) == [answer(), "a dog"] and len(parrot.asked) == 1
    assert Asker(parrot, guided=False)(["🎸 !"]) == ["🎸 !"]


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test builds it")
    model = Vllm(tiny.mistral(tmp_path_factory.mktemp("mistral")), memory=0.3)
    yield model
    model.close()


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.paper
def test_random_weights_can_but_answer_in_spans(mistral: Vllm) -> None:
    answers = Asker(mistral)(CAPTIONS)
    for caption, text in zip(CAPTIONS, answers, strict=True):
        assert isinstance(text, str), text
        assert json.loads(text).keys() == {"background", "subject", "object"}
        entities, reason = post_process(caption, text, lambda _: False)
        assert reason in (None, "no_subject", "plural_subject")
        assert all(caption[slice(*e["span"])] == e["word"] for e in entities)
    unguided = Asker(mistral, guided=False, max_tokens=40)(CAPTIONS)
    assert {post_process(c, t, lambda _: False)[1] for c, t in zip(CAPTIONS, unguided, strict=True)} == {"invalid_answer"}  # type: ignore[arg-type]


@pytest.mark.paper
def test_callers_share_the_engine(mistral: Vllm) -> None:
    """What several threads ask at once is answered as if each were alone, and never mixed up."""
    asker = Asker(mistral)
    alone = [asker([caption])[0] for caption in CAPTIONS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: asker(CAPTIONS), range(4)))
    for found in together:
        for caption, text in zip(CAPTIONS, found, strict=True):
            assert post_process(caption, text, lambda _: False)[1] in (None, "no_subject", "plural_subject")
    assert sum(found == alone for found in together) >= 3  # bfloat16 may turn a tie of random weights another way


@pytest.mark.paper
def test_too_long_a_question_fails_alone(mistral: Vllm) -> None:
    long, short = ([{"role": "user", "content": text}] for text in ("🎸" * 6000, "a dog"))
    bad, good = mistral([Question(long, None, 5), Question(short, None, 5)])
    assert isinstance(bad, Unanswerable) and "maximum context length" in str(bad) and isinstance(good, str)


@pytest.mark.paper
def test_a_question_that_cannot_be_put_fails_alone(mistral: Vllm) -> None:
    """The chat template refuses it; the engine goes on."""
    odd, good = mistral([Question([{"role": "nobody"}], None, 3), Question([{"role": "user", "content": "a dog"}], None, 3)])
    assert isinstance(odd, Exception) and isinstance(good, str)


@pytest.mark.paper
def test_the_engine_is_this_process_and_leaves_nothing(mistral: Vllm, tmp_path: Path) -> None:
    """No child while it works: so none can outlive it, however the worker ends."""
    before = children()
    second = Vllm(tiny.mistral(tmp_path))
    assert second([Question([{"role": "user", "content": "a dog"}], None, 3)])
    assert children() == before
    second.close()
    assert children() == before and not second.thread.is_alive()
    assert not [thread for thread in threading.enumerate() if thread is second.thread]
    with pytest.raises(EngineError, match="closed"):
        second([Question([], None, 3)])


@pytest.mark.paper
def test_other_models_of_the_process_compute_on_one_thread(mistral: Vllm) -> None:
    """vLLM takes torch's knob for that away; on two threads Stable Diffusion gave other bytes than in a worker of its own."""
    import torch

    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2 and device.pick(0.0) == "cpu" and torch.get_num_threads() == 1


@pytest.mark.paper
def test_an_engine_that_dies_is_nobodys_caption(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test builds it")
    dying = Vllm(tiny.mistral(tmp_path))

    def die() -> None:
        raise RuntimeError("CUDA error: an illegal memory access\n was encountered")

    dying.engine.step = die
    question = Question([{"role": "user", "content": "a dog"}], None, 3)
    for error in dying([question] * 2):
        assert isinstance(error, EngineError) and is_infrastructure(error)
        assert str(error) == "the vLLM engine ended: RuntimeError: CUDA error: an illegal memory access was encountered"
    with pytest.raises(EngineError, match="closed"):
        dying([question])
    dying.close()


@pytest.mark.paper
def test_weights_that_do_not_load_are_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test builds it")
    with pytest.raises(FileNotFoundError):
        Vllm(tmp_path)


@pytest.mark.paper
@pytest.mark.slow
@pytest.mark.long
def test_real_language(tmp_path: Path, panda: Path) -> None:
    """SmolLM2-135M on real captions: with the guide every answer is valid and every tag an exact span, without it most are."""
    pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test builds it")
    from benchmarks.guided import captions_of, measure, smollm2

    model = Vllm(smollm2(tmp_path))
    is_plural = WordNet(store.path("wordnet")).is_plural
    captions = captions_of(panda / "clips")[::2]  # benchmarks/guided.py takes them all
    guided, unguided = (measure(model, captions, is_plural, guided=guided) for guided in (True, False))
    model.close()
    assert len(captions) >= 25 and (guided["valid"], guided["exact"]) == (1.0, 1.0)
    assert unguided["valid"] > 0.8 and 0.3 < unguided["exact"] < 0.8
