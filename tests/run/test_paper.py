"""`workflows/paper.yaml` from end to end: its stages and loading code, with tiny random checkpoints for the published ones."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation import recipe
from curation.ledger import read_sample
from curation.run import run
from curation.shards.verify import verify
from curation.storage import Storage
from curation.store import store
from tests import tiny
from tests.conftest import Cluster
from tests.runs import rows, tars

pytestmark = pytest.mark.paper
for package in ("diffusers", "groundingdino", "segment_anything", "ultralytics"):
    pytest.importorskip(package, reason="needs the paper extra")


@pytest.fixture(scope="module")
def knobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By stage: where the tiny weights are, and thresholds low enough for what random networks say."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "extract_entities": {"model": "rules"},
        "score_quality": {"weights": str(tiny.videomae(folder / "videomae", tiny.PANDA)), "min_desirable": 0.0},
        "segment_entities": {
            **{"weights": str(tiny.open_set(folder / "open_set")), "min_area": 0.0, "max_area": 1.0},
            **dict.fromkeys(("box_threshold", "text_threshold", "linked_threshold", "iou_threshold"), 0.0),
        },
        "crop_faces": {"weights": str(tiny.yolo_face(folder / "face.pt"))},
        "inpaint_background": {"weights": str(tiny.stable_diffusion(folder / "sd")), "side": 64, "steps": 2},
    }


def tiny_recipe(name: str, knobs: dict[str, dict[str, Any]], path: Path, **heads: Any) -> Path:
    """The recipe that we ship, with these knobs on top of its own; no label is asked for."""
    made = yaml.safe_load((recipe.WORKFLOWS / f"{name}.yaml").read_text()) | deepcopy(heads)
    made["plan"] = [stage for stage in made.get("plan") or [] if "score_quality" not in stage]
    for head in ("plan", "clips"):
        for stage in made.get(head, []):
            ((stage_name, own),) = stage.items()
            stage[stage_name] = own | knobs.get(stage_name, {})
    path.write_text(yaml.safe_dump(made))
    return path


CSV = """videoID,url,timestamp,caption
carphone_pristine,,"[['0:00:00.000', '0:00:02.002'], ['0:00:02.002', '0:00:04.004']]","['A man in a black suit and a red bow tie is talking in a car.', 'It is snowing.']"
bigbuckbunny,,"[['0:00:00.600', '0:00:05.280']]","['A big grey rabbit is standing on a green meadow and stretching its arms.']"
"""  # noqa: E501


SHORT = """videoID,url,timestamp,caption
carphone_pristine,,"[['0:00:00.000', '0:00:01.200'], ['0:00:01.200', '0:00:02.400'], ['0:00:02.400', '0:00:03.600']]","['A man in a red bow tie is talking in a car.', 'A man with black hair in a car.', 'A man and a window.']"
bigbuckbunny,,"[['0:00:00.600', '0:00:01.900'], ['0:00:01.900', '0:00:03.200'], ['0:00:03.200', '0:00:04.500']]","['A big grey rabbit is standing on a green meadow.', 'A rabbit and a tree.', 'A rabbit with long ears.']"
"""  # noqa: E501


def curated(
    name: str, knobs: dict[str, dict[str, Any]], folder: Path, csv: str = CSV, address: str | None = None, **heads: Any
) -> Path:
    """The output of a run over sample clips, in this process or on the cluster at an address."""
    folder.mkdir(exist_ok=True)
    (folder / "clips.csv").write_text(csv)
    path = tiny_recipe(name, knobs, folder / f"{name}.yaml", **heads)
    where: dict[str, Any] = {"local": True} if address is None else {"address": address}
    assert run.run(str(path), str(folder / "clips.csv"), folder / name, videos=str(store.path("sample-videos")), **where) == 0
    return folder / name


@pytest.fixture(scope="module")
def done(knobs: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curated("paper", knobs, tmp_path_factory.mktemp("first"))


def members(out: Path) -> dict[str, dict[str, bytes]]:
    """By key what is in the tars."""
    kept = [row for row in rows(out) if row["verdict"] == "kept"]
    return {r["key"]: {n.partition(".")[2]: data for n, data in read_sample(Storage.at(out), r)} for r in kept}


def test_the_shards_hold_what_they_promise(done: Path) -> None:
    assert list(verify(Storage.at(done))) == []
    assert sorted((row["verdict"], row["reason"] or "") for row in rows(done)) == [
        ("kept", ""),
        ("kept", ""),
        ("rejected", "no_subject"),
    ]


def test_every_stage_left_its_mark(done: Path) -> None:
    made = yaml.safe_load((done / "recipe.yaml").read_text())
    others = {"encode_latents", "encode_captions", "score_coverage"}  # of finished runs; the benchmark's
    assert {next(iter(stage)) for stage in made["clips"]} == set(recipe.STAGES) - others
    for files in members(done).values():
        clip = json.loads(files["json"])
        assert sum(clip["score_quality"]["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        refs = [ref["member"] for entity in clip["entities"] for ref in entity["refs"]]
        assert refs and set(refs) <= set(files)
        own = {f"{name}.weights" for name in ("score_quality", "segment_entities", "crop_faces", "inpaint_background")}
        assert own < clip["provenance"]["models"].keys()
        assert clip["background"]["method"] == "stable-diffusion" and "background.jpg" in files


def test_the_same_bytes_again(done: Path, knobs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert members(curated("paper", knobs, tmp_path)) == members(done)


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM")
def test_mistral_names_the_entities(knobs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A random Mistral says anything, in tags that are spans of the caption: every clip gets its verdict, the kept are sound."""
    named = {"model": "mistral", "weights": str(tiny.mistral(tmp_path / "mistral"))}
    out = curated("paper", knobs | {"extract_entities": named}, tmp_path)
    assert list(verify(Storage.at(out))) == [] and len(rows(out)) == 3
    assert not {row["reason"] for row in rows(out)} & {"invalid_answer", "tag_not_in_caption"}


@pytest.mark.slow
def test_several_units_in_the_hands_of_gpu_workers_change_no_byte(knobs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """On a cluster that says it has a GPU."""
    painter = {"inpaint_background": {"model": "stable-diffusion", "gpus": 0.3}}
    gpu = [{"segment_entities": {"model": "groundingdino", "gpus": 0.3}}, painter]
    heads: dict[str, Any] = {"plan": [{"extract_entities": {}}], "units": {"clips": 1}, "shards": {"megabytes": 0.05}}
    heads["clips"] = [{"split_shots": {"detector": "none"}}, {"sample_frames": {}}, *gpu]
    alone = curated("paper", knobs, tmp_path / "alone", SHORT, **heads)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # sockets want short paths
        head = Cluster(Path(folder), gpus=1)
        try:
            several = curated("paper", knobs, tmp_path / "several", SHORT, head.address, **heads)
        finally:
            head.stop()
    same = tars(several) == tars(alone)  # pytest would look for the difference for ten minutes
    assert len(members(alone)) == 6 and same
