"""`curation train-codec`: what is learned, resumed = unbroken, what the losses are, what a wrong recipe is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from curation.media.encode import from_arrays
from curation.models import magvit
from curation.models.codecs import codec, pixels
from curation.recipe import WORKFLOWS, RecipeError
from curation.trainer import clips, codec_config, codec_train
from curation.trainer import config as configs
from curation.trainer.codec_losses import Objective
from curation.trainer.data import Data, Loader
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError
from curation.trainer.plan import Plan
from tests.trainer import made

pytestmark = pytest.mark.trainer
NETWORK = {"base": 8, "multipliers": [1, 2, 2, 2, 2], "encoder_blocks": [1] * 5, "decoder_blocks": [1] * 5, "channels": 8}
BUCKETS = [{"frames": 9, "width": 32, "height": 32, "batch": 2}, {"frames": 1, "width": 32, "height": 32, "batch": 3}]
GAN = {"gan": 0.1, "gan_from": 2, "penalty": "lecam", "penalty_weight": 0.1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of discs that move over a ramp, each of its own colours."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    samples = []
    for number in range(6):
        rng = np.random.default_rng(number)
        ramp = rng.uniform(60, 190, 3) + np.stack([40 * x, 40 * y, -40 * x], -1)
        frames = [np.where(((x - 0.6 + 0.1 * t) ** 2 + y**2 < 0.2)[..., None], rng.uniform(0, 255, 3), ramp) for t in range(12)]
        video = from_arrays(np.stack(frames).round().astype(np.uint8), 24.0)
        samples.append(made.sample(f"disc{number}", frames=12, size=(64, 64), video=video))
    return made.write(tmp_path_factory.mktemp("codec") / "run", [samples])


def recipe(folder: Path, **sections: dict[str, Any]) -> str:
    whole: dict[str, dict[str, Any]] = {
        "network": NETWORK,
        "data": {"buckets": BUCKETS},
        "losses": {},
        "training": {"steps": 4, "lr": 1e-3, "precision": "fp32", "log_every": 1, "save_every": 2, "sample_every": 0},
    }
    whole = {name: {**knobs, **sections.get(name, {})} for name, knobs in whole.items()}
    folder.mkdir(exist_ok=True)
    (folder / "codec.yaml").write_text(yaml.safe_dump(whole))
    return str(folder / "codec.yaml")


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_resumed_is_unbroken(run, tmp_path):
    """With an adversary that begins on the way; also what was logged after the last save."""
    whole = recipe(tmp_path, losses=GAN)
    codec_train.train(whole, [str(run)], tmp_path / "whole")
    codec_train.train(recipe(tmp_path, losses=GAN, training={"steps": 3}), [str(run)], tmp_path / "part")
    shutil.copytree(tmp_path / "part", tmp_path / "again")
    assert weights(tmp_path / "part") != weights(tmp_path / "whole")
    with (tmp_path / "part" / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "loss": 9.0}\n')
    codec_train.train(recipe(tmp_path, losses=GAN), [str(run)], tmp_path / "part")
    assert weights(tmp_path / "part") == weights(tmp_path / "whole")
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / n)] for n in ("part", "whole")]
    assert timeless[0] == timeless[1] and [line["step"] for line in timeless[0]] == [1, 2, 3, 4]
    assert "judge" not in timeless[0][1] and timeless[0][2]["judge"] > 0


def test_a_run_is_claimed_for_its_recipe(run, tmp_path):
    codec_train.train(recipe(tmp_path, training={"steps": 1}), [str(run)], tmp_path / "out")
    with pytest.raises(TrainerError, match="was trained with something else"):
        codec_train.train(recipe(tmp_path, losses={"kl": 0.1}), [str(run)], tmp_path / "out")
    with pytest.raises(TrainerError, match="no such folder"):
        codec_train.train(recipe(tmp_path), [str(tmp_path / "none")], tmp_path / "other")


def trainer(run: Path, folder: Path, rank: int = 0, world: int = 1, **sections: Any) -> codec_train.CodecTrainer:
    config = codec_config.load(recipe(folder, **sections))
    data = config.data
    chosen, _ = clips.read([clips.Run.of(str(run))], data)
    return codec_train.CodecTrainer(config, chosen, folder / "out", Process(rank, world, torch.device("cpu")))


def test_a_step_is_the_same_however_it_is_split(run, tmp_path, one_thread):
    """Gradients of two clips at once, and one by one."""
    found = []
    for tokens in (None, 1):
        one = trainer(run, tmp_path, data={"buckets": BUCKETS[:1], "tokens": tokens}, losses=GAN | {"gan_from": 0})
        batches = next(iter(one.loader.steps(0, 1)))
        assert len(batches) == (1 if tokens is None else 2)
        terms = one.update(batches)
        found.append((terms, [p.detach().clone() for p in one.network.parameters()], one.network.mean, one.network.variance))
    (terms, parameters, mean, variance), (terms1, parameters1, mean1, variance1) = found
    for name in ("loss", "l1", "kl", "norm", "gan", "judge"):
        torch.testing.assert_close(terms[name], terms1[name], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(mean, mean1, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(variance, variance1, atol=1e-5, rtol=1e-3)


def test_the_latents_statistics_are_those_of_the_clips(run, tmp_path, one_thread):
    one = trainer(run, tmp_path, data={"buckets": BUCKETS[:1]}, training={"lr": 1e-9})
    seen = []
    for batches in one.loader.steps(0, 3):
        with torch.no_grad():
            seen.append(one.network.encode(pixels(batches[0].video)).mean)
        one.update(batches)
        one.step += 1
    latents = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(one.network.mean, latents.mean(1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one.network.variance, latents.var(1, correction=0), atol=1e-4, rtol=1e-2)


def test_the_weighted_sum_is_what_is_minimised():
    losses = codec_config.Losses(l1=2.0, l2=3.0, kl=0.5, gan=0.25, gan_from=5)
    objective = Objective(losses, torch.device("cpu"), lambda: torch.autocast("cpu", enabled=False))
    video = torch.rand(1, 3, 1, 16, 16)
    posterior = magvit.Posterior(torch.ones(1, 2, 1, 1, 1), torch.zeros(1, 2, 1, 1, 1))
    found = objective.terms(video + 0.5, video, posterior, 4)
    assert found["loss"].item() == pytest.approx(2 * 0.5 + 3 * 0.25 + 0.5 * 0.5, rel=1e-5)
    found = objective.terms((video + 0.5).requires_grad_(), video, posterior, 5)
    assert found["loss"].item() == pytest.approx(2.0 + 0.25 * found["gan"].item(), rel=1e-5)
    found["loss"].backward()
    assert objective.adversary is not None and all(p.grad is None and p.requires_grad for p in objective.adversary.parameters())
    objective.judged(video + 0.5, video)["judge"].backward()
    assert all(p.grad is not None for p in objective.adversary.parameters())


def distance(out: Path, run: Path, data: Data) -> tuple[float, float, float]:
    """Of a batch's clips: the squared error of what the codec in `out` makes of them, of the mean frame of them all (what a codec
    says that knows nothing of the clip), and the latents' root mean square."""
    found = codec("magvit", "cpu", out / "model")
    chosen, _ = clips.read([clips.Run.of(str(run))], data)
    video = pixels(next(iter(Loader(Plan(chosen, data.table(), 0), data).steps(0, 1)))[0].video)
    latents = found.encode(video)
    error = (found.decode(latents) - video).square().mean()
    still = (video - video.mean((0, 2), keepdim=True)).square().mean()
    return error.item(), still.item(), latents.square().mean().sqrt().item()


def test_it_learns(run, tmp_path, one_thread):
    """Better than the mean frame, latents of unit variance, and a picture of it."""
    network = {"base": 16, "channels": 16}
    training = {"steps": 30, "lr": 2e-3, "ema": 0.8, "log_every": 5, "save_every": 30, "sample_every": 30}
    file = recipe(tmp_path, network=network, data={"buckets": [BUCKETS[0] | {"batch": 3}]}, training=training)
    codec_train.train(file, [str(run)], tmp_path / "out")
    log = lines(tmp_path / "out")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"], log
    error, still, spread = distance(tmp_path / "out", run, codec_config.load(file).data)
    assert error < still and 0.5 < spread < 2, (error, still, spread)
    assert (tmp_path / "out" / "samples" / "step-00000030.png").exists()


@pytest.mark.slow
@pytest.mark.long
def test_it_learns_the_sample_clips(sample_run, tmp_path, one_thread):
    """The recipe that comes along, as it is."""
    codec_train.train("train-codec-tiny", [str(sample_run)], tmp_path)
    log = lines(tmp_path)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"], log
    error, still, spread = distance(tmp_path, sample_run, codec_config.load("train-codec-tiny").data)
    assert error < 0.7 * still and 0.5 < spread < 2, (error, still, spread)


def test_what_is_learned_is_a_codec_of_the_trainer(run, tmp_path):
    codec_train.train(recipe(tmp_path, training={"steps": 1}), [str(run)], tmp_path / "out")
    good: dict[str, Any] = {
        "encoders": {"codec": "magvit", "codec_weights": str(tmp_path / "out" / "model"), "text": "minilm", "image": "patches"},
        "data": {"buckets": "v1"},
        "training": {"steps": 1},
    }
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(good))
    found = configs.load(file).encoders
    assert "" not in found.models() and len(found.models()) == 1  # the text's
    found.text_weights = found.codec_weights  # no text encoder is needed here
    assert codec("magvit", "cpu", *found.folder("codec")).shape(17, 288, 512) == (8, 3, 18, 32)
    for change, said in [
        ({"encoders": {"codec": "magvit"}}, "encoders.codec_weights: magvit has no public weights"),
        (
            {"data": {"buckets": [{"frames": 13, "width": 512, "height": 288}]}},
            "13 frames are not 1 more than a multiple of 8; 9 are",
        ),
        (
            {"data": {"buckets": [{"frames": 17, "width": 256, "height": 144}]}},
            "bucket 17x256x144: sides must be multiples of 32",
        ),
        ({"data": {"buckets": "v2"}}, "bucket 17x256x144: sides must be multiples of 32"),
    ]:
        file.write_text(yaml.safe_dump({**good, **change}))
        with pytest.raises(TrainerError, match=said) as error:
            configs.load(file)
        assert "train.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("train-codec*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_loads(path):
    assert codec_config.load(path.stem).path == path


def test_the_papers_recipe_is_the_papers_network():
    assert (
        codec_config.load("train-codec").network == magvit.Size() and codec_config.load("train-codec-tiny").network == magvit.TINY
    )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"network": {"bass": 3}}, "network has no 'bass'; did you mean 'base'?"),
        ({"network": {"time_strides": [1, 2, 2, 1, 1]}}, "network: strides multiply to 8 in time and 16 in space"),
        ({"losses": {"gan_loss": "wasserstein"}}, "losses.gan_loss: Input should be 'hinge' or 'non-saturating'"),
        ({"losses": {"l1": -1.0}}, "losses.l1"),
        ({"data": {"buckets": [{"frames": 5, "width": 32, "height": 32}]}}, "5 frames are not 1 more than a multiple of 8"),
        (
            {"losses": {"perceptual": 1.0}, "data": {"buckets": [{"frames": 9, "width": 32, "height": 16}]}},
            "losses.perceptual needs sides of 32 px or more; bucket 9x32x16 has less",
        ),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, sections, said):
    with pytest.raises((RecipeError, TrainerError)) as caught:
        codec_config.load(recipe(tmp_path, **sections))
    assert said in str(caught.value) and "codec.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_the_command(run, tmp_path):
    file = recipe(tmp_path, training={"steps": 1})
    command = [sys.executable, "-m", "curation.cli", "train-codec", file, "--shards", str(run), "--output"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "step 1/1" in done.stdout + done.stderr, done.stderr
    assert sorted(p.name for p in (tmp_path / "out" / "model").iterdir()) == ["config.json", "model.safetensors"]
    (tmp_path / "codec.yaml").write_text("network: {base: many}")
    done = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("curation: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_two_processes_make_the_weights_of_one(run, tmp_path):
    file = recipe(tmp_path, data={"buckets": BUCKETS[:1]}, training={"steps": 2})
    code = "import sys; from pathlib import Path; from curation.trainer import codec_train; "
    code += "codec_train.train(sys.argv[1], [sys.argv[2]], Path(sys.argv[3]))"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / "go.py").write_text(code)
    done = subprocess.run(
        [*launcher, str(tmp_path / "go.py"), file, str(run), str(tmp_path / "two")], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codec_train.train(file, [str(run)], tmp_path / "one")
    both = [magvit.load(tmp_path / n / "model", "cpu", torch.float32).state_dict() for n in ("one", "two")]
    for name, value in both[0].items():
        torch.testing.assert_close(value, both[1][name], atol=2e-3, rtol=1e-2, msg=name)
