"""Everything as files, and two tables: `clips.parquet`, a row per sample, and `refs.parquet`, a row per reference."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation import columns
from curation.look.export.chosen import Chosen, Sample, source_of

TEXT, COUNT, REAL = pa.string(), pa.int32(), pa.float64()
PICTURES = ("frame0.jpg", "frame1.jpg", "frame2.jpg", "background.jpg")
CLIPS = pa.schema(
    [
        *((name, TEXT) for name in ("key", "caption", "source_video", "url", "video")),
        *((name.removesuffix(".jpg"), TEXT) for name in PICTURES),
        *(("start", REAL), ("end", REAL), ("width", COUNT), ("height", COUNT), ("fps", REAL), ("frames", COUNT)),
        ("metadata", TEXT),
        *columns.FIELDS,
    ]
)
"""`video`, `frame0` … `background`: paths below the folder, null where there is none; `start`, `end`: seconds in the source;
`metadata`: KEY.json whole; from there on the ledger's columns."""
REFS = pa.schema(
    [
        *(("key", TEXT), ("entity", COUNT), ("word", TEXT), ("kind", TEXT), ("frame", COUNT), ("label", TEXT)),
        *((name, REAL) for name in ("x0", "y0", "x1", "y1", "score", "mask_score", "area", "link")),
        *(("mask", TEXT), ("refused", TEXT), ("path", TEXT), ("face_path", TEXT)),
    ]
)
"""`frame`: 0, 1, 2; `x0` … `y1`: px; `mask`: COCO's run lengths at the frame's size; `path`, `face_path`: of the cut-out and
the face, null where `refused` says why there is none."""
ROWS = 1000
"""Rows that are written together."""
Row = dict[str, Any]


def write(chosen: Chosen, folder: Path) -> Row:
    """Members lie in `files/SHARD/KEY.SUFFIX`, byte for byte."""
    with ExitStack() as stack:
        clips, refs = (
            _Table(stack, folder / name, schema) for name, schema in (("clips.parquet", CLIPS), ("refs.parquet", REFS))
        )
        for sample in chosen.samples():
            place = f"files/{source_of(sample.row)}"
            (folder / place).mkdir(parents=True, exist_ok=True)
            paths = {suffix: f"{place}/{sample.key}.{suffix}" for suffix in sample.members if suffix != "json"}
            for suffix, path in paths.items():
                (folder / path).write_bytes(sample.members[suffix])
            clips.add([_clip(sample, paths)])
            refs.add(_refs(sample, paths))
    return {"clips": clips.count, "refs": refs.count}


class _Table:
    """A Parquet file that is written some rows at a time."""

    def __init__(self, stack: ExitStack, path: Path, schema: pa.Schema):
        self.writer = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        self.schema, self.count, self.rows = schema, 0, list[Row]()
        stack.callback(self._flush)

    def add(self, rows: list[Row]) -> None:
        self.rows += rows
        self.count += len(rows)
        if len(self.rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []


def _clip(sample: Sample, paths: Mapping[str, str]) -> Row:
    clip, video = sample.clip, sample.clip.video
    return {
        "key": sample.key,
        "caption": clip.caption,
        "source_video": clip.source.video,
        "url": clip.source.url,
        "video": paths.get("mp4"),
        **{name.removesuffix(".jpg"): paths.get(name) for name in PICTURES},
        "start": clip.source.start,
        "end": clip.source.end,
        **{name: getattr(video, name, None) for name in ("width", "height", "fps", "frames")},
        "metadata": sample.members["json"].decode(),
        **{name: sample.row[name] for name in columns.COLUMNS},
    }


def _refs(sample: Sample, paths: Mapping[str, str]) -> list[Row]:
    rows = []
    for number, entity in enumerate(sample.clip.entities):
        for ref in entity.refs:
            facts = {name: getattr(ref, name) for name in ("frame", "label", "score", "mask_score", "area", "link", "refused")}
            box = dict(zip(("x0", "y0", "x1", "y1"), ref.box, strict=True))
            face = ref.face.member if ref.face else None
            found = {"path": paths.get(str(ref.member)), "face_path": paths.get(str(face)), "mask": ref.mask.counts}
            rows.append({"key": sample.key, "entity": number, "word": entity.word, "kind": entity.kind, **facts, **box, **found})
    return rows
