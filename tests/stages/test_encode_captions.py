from __future__ import annotations

import pytest
import torch

from curation.media.tensors import TEXT
from curation.models.encoders import text_encoder
from curation.recipe import RecipeError, load
from curation.sample import Sample
from curation.shards.sidecar import text
from curation.stage import apply
from curation.stages.encode_captions import EncodeCaptions
from tests.tiny import encoders as tiny

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]

CAPTIONS = ["a woman in a mask", "the dog", "a long coat and brown hair and a green bottle and a cap"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {"minilm": tiny.minilm(folder / "minilm"), "t5": tiny.t5(folder / "t5")}


def stage(folders, encoder: str = "minilm", **knobs) -> EncodeCaptions:
    made = EncodeCaptions(**{"encoder": encoder, "weights": str(folders[encoder]), "length": 12, "dtype": "fp32", **knobs})
    made.resolve()
    made.load()
    return made


def samples() -> list[Sample]:
    return [Sample(f"c{i}", meta={"source": {"caption": caption}}) for i, caption in enumerate(CAPTIONS)]


@pytest.mark.parametrize("name", ["minilm", "t5"])
def test_they_are_the_trainers_own_without_the_padding(folders, name):
    done = apply(stage(folders, name), samples())
    identity = done[0].meta["encode_captions"]["encoder"]
    encoder = text_encoder(name, "cpu", folders[name], identity.split(":")[1], length=12)
    assert identity == encoder.identity
    wanted = encoder(CAPTIONS)
    for i, sample in enumerate(done):
        embeddings, offsets = text(sample.files[TEXT])
        count = int(wanted.mask[i].sum())
        assert torch.equal(embeddings, wanted.embeddings[i, :count]) and offsets.dtype == torch.int32
        assert [tuple(span) for span in offsets.tolist()] == wanted.offsets[i][:count]
        facts = sample.meta["encode_captions"]
        assert (facts["tokens"], facts["dim"], facts["bytes"]) == (count, 32, len(sample.files[TEXT]))
    assert done[2].meta["encode_captions"]["tokens"] == 12, "what exceeds the length is cut"


def test_bf16_is_the_same_rounded(folders):
    exact, rounded = (apply(stage(folders, dtype=dtype), samples()) for dtype in ("fp32", "bf16"))
    for a, b in zip(exact, rounded, strict=True):
        assert torch.equal(text(a.files[TEXT])[0].bfloat16(), text(b.files[TEXT])[0])


def test_embeddings_that_are_not_finite_fail_alone(folders):
    one = stage(folders)
    (dog,) = one._encoder._tokenizer("dog", add_special_tokens=False)["input_ids"]
    one._encoder._network.embeddings.word_embeddings.weight[dog] = torch.inf
    assert [(s.verdict.status, s.verdict.reason) for s in apply(one, samples())] == [
        ("kept", ""),
        ("failed", "not_finite"),
        ("kept", ""),
    ]


def test_it_stands_where_members_are_written(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("plan: [encode_captions: {}]\nclips: [encode_captions: {}]")
    with pytest.raises(RecipeError, match="plan.encode_captions reads 'source', which no stage before it gives"):
        load(path)


def test_what_it_needs():
    assert EncodeCaptions().models() == ("t5-v1_1-xxl-encoder",) and EncodeCaptions(weights="here").models() == ()
    for gpus, precision in ((0.5, "bf16"), (None, "fp32")):
        one = EncodeCaptions(gpus=gpus)
        one.resolve()
        assert one.precision == precision
