"""The latents of a clip are those that the trainer would make of it, by its own path: `resample.clip`, then the codec."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curation.buckets import Bucket
from curation.faults import DataError
from curation.inputs.open import open_input
from curation.media import resample, tensors
from curation.media.tensors import LATENTS
from curation.models.codecs import codec, pixels
from curation.sample import Sample
from curation.shards.sidecar import latents
from curation.stage import Reject, apply
from curation.stages.encode_latents import EncodeLatents
from tests.tiny import encoders as tiny
from tests.trainer import made

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]

WIDE, SMALL = Bucket(frames=9, width=96, height=64), Bucket(frames=17, width=64, height=64)
CLIPS = {"even": (24, 60), "other_rate": (30, 50), "slow": (10, 40)}
"""Frames per second, frames."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> dict[str, Sample]:
    """Clips of a finished run as an input gives them."""
    folder = tmp_path_factory.mktemp("run")
    clips = [made.sample(key, frames=frames, fps=fps) for key, (fps, frames) in CLIPS.items()]
    clips += [made.sample("brief", frames=5), made.sample("small", size=(48, 48)), made.sample("upright", size=(100, 400))]
    clips += [made.sample("torn", video=made.mp4(60, 24)[:3000]), made.sample("lying", frames=90, video=made.mp4(20, 24))]
    made.write(folder, [clips])
    return {sample.key: sample for sample in open_input(str(folder))}


def stage(**knobs) -> EncodeLatents:
    made = EncodeLatents(**{"codec": "dct", "dtype": "fp32", "buckets": [WIDE, SMALL], **knobs})
    made.resolve()
    made.load()
    return made


def encoded(sample: Sample, **knobs) -> tuple[dict[tuple[str, int], torch.Tensor], dict]:
    fresh = Sample(sample.key, meta={"source": sample.meta["source"]})
    result = stage(**knobs).process(fresh)
    return latents(result.files[LATENTS]), result.meta["encode_latents"]


def online(key: str, bucket: Bucket, first: int, fps: float = 24.0, at=(0.5, 0.5), by=None) -> torch.Tensor:
    """What the trainer computes."""
    rate, frames = CLIPS[key]
    times = [first / rate + i / fps for i in range(bucket.frames)]
    video = torch.from_numpy(resample.clip(made.mp4(frames, rate), times, bucket.width, bucket.height, at))
    return (by or codec("dct", "cpu")).encode(pixels(video[None]))[0]


@pytest.mark.parametrize("key", CLIPS)
def test_they_are_the_trainers_own_bit_for_bit(planned, key):
    found, facts = encoded(planned[key], starts=3)
    assert {bucket for bucket, _ in found} == {WIDE.name, SMALL.name} and len(found) == 6
    assert all(torch.equal(z, online(key, WIDE if name == WIDE.name else SMALL, first)) for (name, first), z in found.items())
    assert facts["codec"] == codec("dct", "cpu").identity and (facts["fps"], facts["channels"], facts["at"]) == (24.0, 64, None)


def test_first_frames_reach_from_the_clips_first_to_the_last_that_fits(planned):
    firsts = {
        n: sorted(first for bucket, first in encoded(planned["even"], starts=n)[0] if bucket == WIDE.name) for n in (1, 3, 99)
    }
    assert firsts == {1: [0], 3: [0, 26, 51], 99: list(range(52))}
    with pytest.raises(resample.DecodeError):  # one frame later there is none for the last
        online("even", WIDE, 53)
    rate, frames = CLIPS["other_rate"]
    last = max(first for bucket, first in encoded(planned["other_rate"], starts=2)[0] if bucket == SMALL.name)
    assert last == int(((frames - 1) / rate - 16 / 24) * rate) == 29


def test_first_frames_drawn_at_random_hang_on_key_and_seed_alone(planned):
    def firsts(**knobs):
        return set(encoded(planned["even"], spread="random", starts=4, **knobs)[0])

    assert firsts() == firsts() != firsts(seed=1)
    assert len([1 for bucket, _ in firsts() if bucket == WIDE.name]) == 4
    alike = Bucket(frames=9, width=64, height=64)
    drawn = firsts(buckets=[WIDE, alike])
    assert {first for b, first in drawn if b == WIDE.name} != {first for b, first in drawn if b == alike.name}
    assert max(first for bucket, first in encoded(planned["even"], spread="random", starts=99)[0] if bucket == WIDE.name) == 51


def test_bf16_is_the_same_rounded(planned):
    exact, rounded = encoded(planned["even"])[0], encoded(planned["even"], dtype="bf16")[0]
    assert all(torch.equal(rounded[name], exact[name].bfloat16()) for name in exact) and rounded.keys() == exact.keys()


def test_another_crop_is_recorded_and_can_be_made_again(planned):
    found, facts = encoded(planned["even"], crop="random", starts=2)
    assert len({tuple(at) for at in facts["at"]}) == 4
    for name, at in zip(facts["latents"], facts["at"], strict=True):
        bucket, first = tensors.named_latents(name)
        wanted = online("even", WIDE if bucket == WIDE.name else SMALL, first, at=tuple(at))
        assert torch.equal(found[bucket, first], wanted)


def test_a_real_codecs_latents(planned, tmp_path):
    folder = tiny.cogvideox(tmp_path / "vae")
    found, facts = encoded(planned["even"], codec="cogvideox", weights=str(folder), buckets=[WIDE])
    network = codec("cogvideox", "cpu", folder, facts["codec"].split(":")[1])
    assert facts["codec"] == network.identity and facts["channels"] == 4
    torch.testing.assert_close(found[WIDE.name, 0], online("even", WIDE, 0, by=network), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key, reason", [("brief", "too_short"), ("small", "too_small"), ("upright", "too_much_cropped")])
def test_who_fits_no_bucket_is_rejected_as_by_the_trainer(planned, key, reason):
    with pytest.raises(Reject, match=reason):
        encoded(planned[key])
    if key == "small":
        assert encoded(planned[key], upscale=True)[0]
    if key == "upright":
        assert encoded(planned[key], min_kept=0.1)[0]


@pytest.mark.parametrize("key", ["torn", "lying"])
def test_a_video_that_does_not_decode_fails_alone(planned, key):
    samples = [Sample(k, meta={"source": planned[k].meta["source"]}) for k in (key, "even")]
    bad, good = apply(stage(starts=2), samples)
    assert (bad.verdict.status, bad.verdict.reason, bad.verdict.unforeseen) == ("failed", "undecodable", False)
    assert good.alive


def test_latents_that_are_not_finite_are_not_written(planned, monkeypatch):
    one = stage()
    one._codec.scale = one._codec.scale * 0
    with pytest.raises(DataError, match="not_finite"):
        one.process(Sample("even", meta={"source": planned["even"].meta["source"]}))


def test_a_clip_of_which_no_more_than_its_file_is_known_fails():
    source = {"path": "x.mp4", "start": None, "end": None, "caption": "c"}
    with pytest.raises(DataError, match="no_metadata"):
        stage().process(Sample("x", meta={"source": source}))


def test_what_the_machine_decides_is_decided_once():
    for gpus, precision in ((0.5, "bf16"), (None, "fp32")):
        one = EncodeLatents(codec="dct", buckets="v2", gpus=gpus)
        one.resolve()
        assert one.precision == precision and one.units() == (2 if gpus else 1)
    assert EncodeLatents(buckets="v1").models() == ("cogvideox-vae",) and EncodeLatents(codec="dct", buckets="v1").models() == ()
    assert EncodeLatents(buckets="v1", weights="here").own_files() == {"weights": "here"}


def test_buckets_that_cannot_be_are_refused(tmp_path: Path):
    from curation.recipe import RecipeError, load

    path = tmp_path / "r.yaml"
    path.write_text("clips: [encode_latents: {buckets: [{frames: 8, width: 64, height: 64}]}]")
    with pytest.raises(RecipeError, match="8 frames are not 1 more than a multiple of 4"):
        load(path)
