"""Each layout is read back as its consumer reads it: by the consumer itself where it is installed, else as is documented."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import get_args

import av
import cv2
import numpy as np
import pytest
import yaml

from curation import cli, ledger
from curation.inputs.files import InputError
from curation.look import decisions
from curation.look.export import diffsynth, tars
from curation.look.export.export import FORMATS, export
from curation.media.members import from_rle, to_rle, to_webp
from curation.storage import Storage
from tests.shards import made
from tests.shards.made import rejected

SIDE = 32, 64
MASK = np.zeros(SIDE, bool)
MASK[8:24, 10:30] = True


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((*SIDE, 3), value, np.uint8))[1].tobytes()


def clip(key: str, *words: tuple[str, str], background: bool = True, **how) -> made.Sample:
    """A kept one with pictures; each word (kind, word) but the background's is seen in all frames."""
    cutout = to_webp(np.full((16, 20, 3), 90, np.uint8), np.ones((16, 20), bool), 95)
    entities, found, files = [], [], {f"frame{n}.jpg": jpeg(60 * n) for n in range(3)}
    for number, (kind, word) in enumerate(words):
        seen = range(3 if kind != "background" else 0)
        refs = [ref(number, frame) for frame in seen]
        files |= {fact["member"]: cutout for fact in refs}
        entities.append({"word": word, "kind": kind, "span": [0, 1]})
        found.append({"refs": refs})
    meta = {
        "extract_entities": {"entities": entities},
        "segment_entities": {"entities": found},
        "sample_frames": {"indices": [2, 24, 47]},
        "inpaint_background": {"frame": 0, "coverage": 0.5, "method": "plate", "member": "background.jpg"},
    }
    one = made.sample(key, **how, **meta)
    one.files |= files | ({"background.jpg": jpeg(7)} if background else {})
    return one


def ref(entity: int, frame: int) -> dict:
    facts = {"frame": frame, "label": "person", "box": [10.0, 8.0, 30.0, 24.0], "score": 0.9, "mask": to_rle(MASK)}
    return {**facts, "mask_score": 0.9, "area": 0.1, "member": f"ref.{entity}.{frame}.webp"}


MAN = ("subject", "man")


def note(folder: Path) -> dict:
    return json.loads((folder / "export.json").read_text())


def left_out(folder: Path) -> dict[str, int]:
    return {why: fact["count"] for why, fact in note(folder)["left_out"].items()}


def members(run: Path | str) -> dict[str, dict[str, bytes]]:
    """Key → suffix → bytes, of all that is kept."""
    storage = Storage.at(run)
    rows = [row for row in ledger.rows(storage) if row["offset"] is not None]
    return {r["key"]: {n.removeprefix(f"{r['key']}."): data for n, data in ledger.read_sample(storage, r)} for r in rows}


def pixels(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def in_tars(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        with path.open("rb") as file:
            found |= dict(ledger.read_tar(file))
    return found


def test_the_command_knows_every_format():
    assert set(get_args(cli.Format)) == set(FORMATS)


def test_msrvtt_is_read_as_the_benchmark_reads_it(sample_run, tmp_path):
    """PAPER.md §6, line by line; files are found as its scripts find them: by the word, `_` for spaces, and a pattern."""
    assert "3 samples" in export(str(sample_run), "msrvtt", tmp_path / "out")
    videos = sorted((tmp_path / "out" / "msrvtt_personalization_data").glob("*"))
    truth, faces = members(sample_run), 0
    assert [video.name for video in videos] == sorted(truth)
    for video, (_, own) in zip(videos, sorted(truth.items()), strict=True):
        facts = json.loads(own["json"])
        assert (video / "video.mp4").read_bytes() == own["mp4"]
        assert [path.read_bytes() for path in sorted(video.glob("frame*.jpg"))] == [own[f"frame{n}.jpg"] for n in range(3)]
        assert (video / "summary_text.txt").read_text() == facts["caption"]
        assert (video / "background.jpg").exists() == ("background.jpg" in own)
        tags = json.loads((video / "word_tags.json").read_text())
        assert list(tags) == ["subject", "object", "background", "subject_with_face"] and tags["background"] == [""]
        shown = [e for e in facts["entities"] if any(ref["member"] for ref in e["refs"])]
        assert {word for kind in ("subject", "object") for word in tags[kind]} == {entity["word"] for entity in shown}
        for entity in shown:
            refs = [ref for ref in entity["refs"] if ref["member"]]
            stem = entity["word"].replace(" ", "_")
            found = sorted(video.glob(f"{stem}.frame*.png"))
            assert [path.suffixes[0] for path in found] == [f".frame{ref['frame'] + 1}" for ref in refs]
            for path, one in zip(found, refs, strict=True):
                assert np.array_equal(pixels(path.read_bytes()), pixels(own[one["member"]]))
            with_face = [ref for ref in refs if ref["face"]]
            assert (entity["word"] in tags["subject_with_face"]) == bool(with_face)
            for path, one in zip(sorted(video.glob(f"{stem}.face.frame*.png")), with_face, strict=True):
                face, crop = pixels(path.read_bytes()), pixels(own[one["face"]["member"]])
                assert face.shape == (*crop.shape[:2], 4) and set(np.unique(face[..., 3])) <= {0, 255}
                assert np.abs(face[..., :3].astype(int) - crop).mean() < 3  # the member was a JPEG once more
                rows, columns = (int(v) for v in (one["face"]["box"][3], one["face"]["box"][0]))
                mask = from_rle(one["mask"])[:, columns : columns + face.shape[1]]
                tops = [top for top in range(rows) if np.array_equal(mask[top : top + face.shape[0]], face[..., 3] > 0)]
                assert any(top <= one["face"]["box"][1] for top in tops)
                faces += 1
    assert faces == 5 and note(tmp_path / "out")["without_background"] == 2


def test_msrvtt_leaves_out_what_would_share_files(tmp_path):
    clips = [
        clip("fine", MAN, ("object", "red hat"), ("background", "a street")),
        clip("twice", MAN, ("object", "Man")),
        clip("slash", ("subject", "boy/girl"), ("object", "boy girl")),
        clip("behind", MAN, ("background", "man")),
        clip("pattern", ("subject", "man*")),
        clip("hidden", ("subject", ".man")),
    ]
    made.run(tmp_path / "run", [clips])
    told = export(str(tmp_path / "run"), "msrvtt", tmp_path / "out")
    assert "1 samples" in told and "3 two_equal_words (as twice)" in told
    assert left_out(tmp_path / "out") == {"two_equal_words": 3, "odd_word": 2}
    (video,) = (tmp_path / "out" / "msrvtt_personalization_data").iterdir()
    assert {p.name for p in video.glob("*.png")} == {f"{w}.frame{n}.png" for w in ("man", "red_hat") for n in (1, 2, 3)}
    assert all(pixels(path.read_bytes()).shape == (16, 20, 4) for path in video.glob("*.png"))  # RGBA, though they fill their box
    tags = json.loads((video / "word_tags.json").read_text())
    assert tags == {"subject": ["man"], "object": ["red hat"], "background": ["a street"], "subject_with_face": []}


def test_huggingface_has_a_card_that_names_every_member(sample_run, tmp_path):
    export(str(sample_run), "huggingface", tmp_path / "out")
    _, head, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    kinds = {f["name"]: f for f in yaml.safe_load(head)["dataset_info"][0]["features"]}
    assert kinds.keys() == {"__key__", "__url__", *(suffix for own in members(sample_run).values() for suffix in own)}
    assert kinds["json"]["dtype"] == "json" and kinds["ref.0.0.webp"]["dtype"] == "image"
    assert kinds["refs.npy"] == {"name": "refs.npy", "list": {"list": "float16"}}
    assert "| `background.jpg` | 1 |" in text and "| nanodet | Apache-2.0 |" in text


def refs(own: dict[str, bytes]) -> int:
    """How many cut-outs a sample has, and so embeddings."""
    return sum(name.startswith("ref.") for name in own)


def test_datasets_reads_huggingface(sample_run, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the dev extra is not installed")
    export(str(sample_run), "huggingface", tmp_path / "out")
    code = (
        "import sys, datasets\n"
        "for streaming in (True, False):\n"
        "    for s in datasets.load_dataset(sys.argv[1], split='train', streaming=streaming):\n"
        "        cut, face, frames = s['ref.0.2.webp'], s['face.0.0.jpg'], s['json']['video']['frames']\n"
        "        print(s['__key__'], len(s['mp4']['bytes']), frames, cut.mode, face is None, len(s['refs.npy']))"
    )
    quiet = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True, env=quiet)
    assert said.returncode == 0, said.stderr
    wanted = [
        f"{key} {len(own['mp4'])} {json.loads(own['json'])['video']['frames']} RGBA {'face.0.0.jpg' not in own} {refs(own)}"
        for key, own in members(sample_run).items()
    ]
    assert said.stdout.splitlines() == wanted * 2


def test_diffsynth_is_read_as_its_dataset_reads_it(sample_run, tmp_path):
    pandas = pytest.importorskip("pandas")
    export(str(sample_run), "diffsynth", tmp_path / "out")
    rows = pandas.read_csv(tmp_path / "out" / "metadata.csv").to_dict("records")
    truth = members(sample_run)
    assert len(rows) == note(tmp_path / "out")["rows"] == 4
    for row in rows:
        key, entity, _ = Path(row["vace_reference_image"]).name.split(".")
        own = truth[key]
        facts = json.loads(own["json"])
        assert (tmp_path / "out" / row["video"]).read_bytes() == own["mp4"] and row["prompt"] == facts["caption"]
        refs = [ref["member"] for ref in facts["entities"][int(entity)]["refs"] if ref["member"]]
        picture, cutout = pixels((tmp_path / "out" / row["vace_reference_image"]).read_bytes()), pixels(own[refs[len(refs) // 2]])
        assert picture.ndim == 3 and picture.shape[2] == 3
        assert picture.shape[1] / picture.shape[0] == pytest.approx(facts["video"]["width"] / facts["video"]["height"], rel=0.02)
        top, left = ((a - b) // 2 for a, b in zip(picture.shape[:2], cutout.shape[:2], strict=True))
        inside = picture[top : top + cutout.shape[0], left : left + cutout.shape[1]]
        assert np.array_equal(inside[cutout[..., 3] == 255], cutout[cutout[..., 3] == 255][:, :3])
        assert (inside[cutout[..., 3] == 0] == 255).all()
        assert int((picture != 255).any(axis=2).sum()) <= int((cutout[..., 3] > 0).sum())


def test_duckdb_reads_parquet_and_its_files(sample_run, tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    export(str(sample_run), "parquet", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    truth = members(sample_run)
    clips = duckdb.sql("FROM 'clips.parquet'").to_arrow_table().to_pylist()
    assert [row["key"] for row in clips] == list(truth)
    for row in clips:
        own = truth[row["key"]]
        assert row["metadata"].encode() == own["json"] and Path(row["video"]).read_bytes() == own["mp4"]
        assert {p.name.partition(".")[2] for p in Path("files").rglob(f"{row['key']}.*")} == own.keys() - {"json"}
        assert row["subjects"] == 1 and row["duration"] > 1
    joined = "SELECT r.*, caption FROM 'refs.parquet' r JOIN 'clips.parquet' USING (key)"
    refs = duckdb.sql(joined).to_arrow_table().to_pylist()
    wanted = [ref for own in truth.values() for e in json.loads(own["json"])["entities"] for ref in e["refs"]]
    assert len(refs) == len(wanted) and {r["word"] for r in refs} >= {"man", "young man", "cyclist"}
    for row in refs:
        if row["refused"] is None:
            assert Path(row["path"]).read_bytes() == truth[row["key"]][f"ref.{row['entity']}.{row['frame']}.webp"]
            face = truth[row["key"]].get(f"face.{row['entity']}.{row['frame']}.jpg")
            assert (Path(row["face_path"]).read_bytes() if row["face_path"] else None) == face
            assert row["x1"] - row["x0"] == pixels(Path(row["path"]).read_bytes()).shape[1]
        else:
            assert row["path"] is None


def test_energon_has_links_and_the_index_that_it_would_make(sample_run, tmp_path):
    before = sorted(p for p in sample_run.rglob("*"))
    export(str(sample_run), "energon", tmp_path / "out")
    assert sorted(p for p in sample_run.rglob("*")) == before
    check_energon(tmp_path / "out")
    (link,) = (tmp_path / "out" / "shards").glob("*.tar")
    assert link.samefile(sample_run / "shards" / link.name) and note(tmp_path / "out")["linked"]
    export(str(sample_run), "energon", tmp_path / "some", "faces > 0")
    check_energon(tmp_path / "some")
    (tar,) = (tmp_path / "some" / "shards").glob("*.tar")
    wanted = {
        f"{key}.{suffix}": d for key, own in members(sample_run).items() if "man" in key + str(own) for suffix, d in own.items()
    }
    assert not tar.is_symlink() and in_tars(tmp_path / "some").items() <= wanted.items()
    assert {name.partition(".")[0] for name in in_tars(tmp_path / "some")} == {
        "carphone_pristine_00000",
        "carphone_pristine_00001",
    }


def check_energon(folder: Path) -> None:
    """`.info.json`, `split.yaml` and `dataset.yaml` as its documentation has them; in `SHARD.tar.idx` offsets as 8 bytes each."""
    counts = json.loads((folder / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert yaml.safe_load((folder / ".nv-meta" / "split.yaml").read_text())["split_parts"]["train"] == list(counts)
    assert yaml.safe_load((folder / ".nv-meta" / "dataset.yaml").read_text())["__class__"] == "CrudeWebdataset"
    assert sorted(counts) == sorted(f"shards/{path.name}" for path in (folder / "shards").glob("*.tar"))
    for name, count in counts.items():
        data, index = (folder / name).read_bytes(), (folder / f"{name}.idx").read_bytes()
        offsets = struct.unpack(f"<{len(index) // 8}Q", index)
        assert len(offsets) == count + 1
        for start, end in zip(offsets, offsets[1:], strict=False):
            with tarfile.open(fileobj=io.BytesIO(data[start:end] + bytes(1024))) as tar:
                assert len({member.name.partition(".")[0] for member in tar}) == 1


@pytest.mark.skipif(not importlib.util.find_spec("megatron"), reason="megatron-energon is not installed")
def test_energon_reads_energon(sample_run, tmp_path):
    energon = pytest.importorskip("megatron.energon")
    export(str(sample_run), "energon", tmp_path / "out")
    seen = {}

    class Encoder(energon.DefaultTaskEncoder):
        cookers = [energon.Cooker(energon.stateless(lambda sample: seen.setdefault(sample["__key__"], dict(sample))))]
        decoder = None

    config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    how = {"batch_size": None, "shuffle_buffer_size": None, "max_samples_per_sequence": None, "repeat": False}
    data = energon.get_train_dataset(tmp_path / "out", worker_config=config, task_encoder=Encoder(), **how)
    list(energon.get_loader(data))
    assert {key: {n: s[n] for n in s if not n.startswith("__")} for key, s in seen.items()} == members(sample_run)


def test_opens2v_is_read_as_its_loader_reads_it(sample_run, tmp_path):
    """A frame of the video by number, subjects cut out of it by their masks, a background for every clip."""
    told = export(str(sample_run), "opens2v", tmp_path / "out")
    assert "1 samples" in told and left_out(tmp_path / "out") == {"no_background": 2}
    data, truth = json.loads((tmp_path / "out" / "dataset.json").read_text()), members(sample_run)
    for key, item in data.items():
        own = truth[key]
        facts = json.loads(own["json"])
        about, seen = item["metadata"], item["annotation"]
        with av.open(str(tmp_path / "out" / "videos" / about["path"])) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert about["face_cut"] == [0, len(frames)] and about["face_cap_qwen"] == facts["caption"]
        left, right, top, bottom = about["crop"]
        assert (bottom - top, right - left) == frames[0].shape[:2] == tuple(about["resolution"].values())
        number = seen["ann_frame_data"]["ann_frame_idx"]
        masks = seen["mask_annotation"][str(number)]
        assert masks.keys() == seen["mask_map"].keys() and len(masks) == len(seen["ann_frame_data"]["annotations"])
        assert np.array_equal(
            pixels((tmp_path / "out" / "backgrounds" / f"{key}.png").read_bytes()), pixels(own["background.jpg"])
        )
        for index, rle in masks.items():
            word, box = seen["mask_map"][index]["class_name"], seen["ann_frame_data"]["annotations"][int(index) - 1]["bbox"]
            (one,) = [
                ref
                for e in facts["entities"]
                for ref in e["refs"]
                if e["word"] == word and ref["box"] == box and facts["sample_frames"]["indices"][ref["frame"]] == number
            ]
            mask, cutout = from_rle(rle), pixels(own[one["member"]])
            rows, columns = np.nonzero(mask)
            assert (rows.min(), columns.min()) >= (int(box[1]), int(box[0]))
            place = slice(int(box[1]), int(box[3])), slice(int(box[0]), int(box[2]))
            assert np.array_equal(mask[place], cutout[..., 3] > 0)
            difference = np.abs(frames[number][place].astype(int) - cutout[..., :3])[mask[place]]
            assert difference.mean() < 8  # both were compressed


@pytest.fixture
def run(tmp_path):
    """Two shards, and a unit that is not packed."""
    storage = made.run(tmp_path / "run", [[clip("a", MAN), rejected("r")], [clip("b", MAN), clip("c", MAN)]], megabytes=0.001)
    made.write(storage, 4, [clip("d", MAN)], group=1)
    return storage


@pytest.mark.parametrize("format", FORMATS)
def test_conditions_and_decisions_filter_every_format(run, tmp_path, format):
    for key, decision in (("b", "drop"), ("b", "keep"), ("c", "drop"), ("nobody", "drop")):
        decisions.add(run, key, decision)
    export(run.path(), format, tmp_path / "out", "key <> 'a'", decided=True)
    told = note(tmp_path / "out")
    assert (told["samples"], told["dropped_by_decision"], told["where"], told["format"]) == (2, 1, "key <> 'a'", format)
    names = {path.name.partition(".")[0] for path in (tmp_path / "out").rglob("*") if path.is_dir() or path.suffix != ".tar"}
    found = names | {
        name.partition(".")[0] for name in (in_tars(tmp_path / "out") if (tmp_path / "out" / "shards").exists() else ())
    }
    assert found & {"a", "b", "c", "d"} == {"b", "d"}


def test_new_tars_are_cut_and_hold_what_is_not_packed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "BYTES", 1)
    export(run.path(), "energon", tmp_path / "out")
    check_energon(tmp_path / "out")
    assert len(list((tmp_path / "out" / "shards").glob("*.tar"))) == 4 and not note(tmp_path / "out")["linked"]
    assert in_tars(tmp_path / "out") == {
        f"{key}.{n}": data for key, own in members(run.path()).items() for n, data in own.items()
    }


def test_where_there_is_something_nothing_is_written(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for output, says in {
        tmp_path / "full": "is there already",
        tmp_path / "full" / "x": "is there already",
        tmp_path / "run" / "export": "inside of the run",
        "s3://bucket/export": "a folder on a disk",
    }.items():
        with pytest.raises(InputError, match=says):
            export(run.path(), "parquet", output)
    (tmp_path / "empty").mkdir()
    export(run.path(), "parquet", tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full", "run"]


def test_decisions_are_not_read_unasked(run, tmp_path):
    decisions.add(run, "a", "drop")
    export(run.path(), "parquet", tmp_path / "out")
    assert (note(tmp_path / "out")["samples"], note(tmp_path / "out")["dropped_by_decision"]) == (4, 0)


def test_nothing_to_export(run, tmp_path):
    for key in "abcd":
        decisions.add(run, key, "drop")
    for says, how in {
        "no kept clip is left": {"where": "false"},
        "is left by": {"decided": True},
        "--where": {"where": "no_such_column > 1"},
    }.items():
        with pytest.raises(InputError, match=says):
            export(run.path(), "parquet", tmp_path / "out", **how)
    made.run(tmp_path / "bare", [[clip("a", ("background", "sky"))]])
    with pytest.raises(InputError, match=r"nothing of it can be had as diffsynth: 1 no_reference \(as a\)"):
        export(str(tmp_path / "bare"), "diffsynth", tmp_path / "out")
    with pytest.raises(InputError, match="no finished shard"):
        export(str(tmp_path / "nowhere"), "msrvtt", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare", "run"]


@pytest.mark.parametrize("format", ["msrvtt", "parquet"])
def test_a_damaged_sample_is_left_out_and_told_of(run, tmp_path, format):
    row, last = (next(row for row in ledger.rows(run) if row["key"] == key) for key in "bc")
    path = run.local(f"shards/{row['shard']}.tar")
    data = bytearray(path.read_bytes())
    data[row["offset"] + 2000] ^= 1
    path.write_bytes(data[: last["offset"] + last["size"] - 600])
    export(run.path(), format, tmp_path / "out")
    assert left_out(tmp_path / "out") == {"unreadable": 2} and note(tmp_path / "out")["samples"] == 2


def test_no_name_leads_out_of_the_folder(tmp_path):
    made.run(tmp_path / "run", [[clip("../evil", MAN), clip("a/b", MAN), clip(".hid", MAN), clip("ok", MAN)]])
    for format in ("msrvtt", "opens2v", "diffsynth", "parquet"):
        export(str(tmp_path / "run"), format, tmp_path / format / "out")
        assert left_out(tmp_path / format / "out") == {"odd_name": 3}
        assert [p.name for p in (tmp_path / format).iterdir()] == ["out"]
        assert not [p for p in (tmp_path / format).rglob("*") if {"evil", "b", ".hid"} & {p.name.partition(".")[0], p.name[:4]}]


def test_a_caption_stays_one_cell(tmp_path):
    hostile = 'A man, "so\n=cmd()|x'
    one = clip("a", MAN)
    one.meta["source"]["caption"] = hostile
    made.run(tmp_path / "run", [[one]])
    export(str(tmp_path / "run"), "diffsynth", tmp_path / "out")
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == [hostile]


def test_energon_stays_what_its_index_says_when_the_run_is_rewritten(tmp_path):
    storage = made.run(tmp_path / "run", [[clip("a", MAN), clip("b", MAN)]])
    export(storage.path(), "energon", tmp_path / "out")
    export(storage.path(), "huggingface", tmp_path / "hub")
    (tar,) = (name for name in storage.names("shards") if name.endswith(".tar"))
    rows = list(ledger.rows(storage))
    storage.write(f"shards/{tar}", storage.read(f"shards/{tar}")[rows[1]["offset"] :])  # as `forget` does
    check_energon(tmp_path / "out")
    assert {name[0] for name in in_tars(tmp_path / "out")} == {"a", "b"} and {name[0] for name in in_tars(tmp_path / "hub")} == {
        "b"
    }


@pytest.mark.parametrize("caption", ["NA", "null", "None", "nan"])
def test_a_caption_that_pandas_takes_for_none(tmp_path, caption):
    pandas = pytest.importorskip("pandas")
    odd, right = clip("a", MAN), clip("b", MAN)
    odd.meta["source"]["caption"], right.meta["source"]["caption"] = caption, f"{caption} is not a caption."
    storage = made.run(tmp_path / "run", [[odd, right]])
    export(storage.path(), "diffsynth", tmp_path / "out")
    assert pandas.read_csv(tmp_path / "out" / "metadata.csv")["prompt"].tolist() == [f"{caption} is not a caption."]
    assert left_out(tmp_path / "out") == {"odd_caption": 1}


def test_all_that_pandas_takes_for_none_is_known():
    parsers = pytest.importorskip("pandas._libs.parsers")
    assert parsers.STR_NA_VALUES <= diffsynth.MISSING


def test_from_an_object_store(s3, tmp_path):
    made.run(f"{s3}/run", [[clip("a", MAN), clip("b", MAN)]])
    export(f"{s3}/run", "energon", tmp_path / "energon")
    check_energon(tmp_path / "energon")
    assert not note(tmp_path / "energon")["linked"] and len(in_tars(tmp_path / "energon")) == 18
    export(f"{s3}/run", "msrvtt", tmp_path / "msrvtt", "key = 'b'")
    assert [p.name for p in (tmp_path / "msrvtt" / "msrvtt_personalization_data").iterdir()] == ["b"]
