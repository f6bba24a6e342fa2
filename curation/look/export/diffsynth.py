"""DiffSynth-Studio's table for training Wan VACE: `metadata.csv` with video, prompt and vace_reference_image."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from curation.look.export.chosen import Chosen, LeftOut, Sample
from curation.look.export.pictures import cutout, on_white, png

HEADER = ("video", "prompt", "vace_reference_image")
MISSING = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
}
"""What pandas, by which DiffSynth reads the table, takes for no text at all, also in quotes (`STR_NA_VALUES` of pandas 3.1)."""


def write(chosen: Chosen, folder: Path) -> dict[str, Any]:
    """A row for every subject and object with references: there is one picture in a row, so it is the middle one, as the papers'
    benchmark takes it (PAPER.md §6). Clips without any are left out."""
    (folder / "videos").mkdir()
    (folder / "references").mkdir()
    count = 0
    with (folder / "metadata.csv").open("x", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        for sample in chosen.samples():
            with chosen.taking(sample.key):
                references = _references(sample)
                (folder / f"videos/{sample.key}.mp4").write_bytes(sample.members["mp4"])
                for entity, picture in references.items():
                    name = f"references/{sample.key}.{entity}.png"
                    (folder / name).write_bytes(picture)
                    table.writerow([f"videos/{sample.key}.mp4", sample.clip.caption, name])
                count += len(references)
    return {"rows": count}


def _references(sample: Sample) -> dict[int, bytes]:
    """Number of an entity → its picture. DiffSynth drops alpha, scales a picture until it covers the video's size, and cuts off
    what juts out: so it stands on white, in the video's shape. Raises `LeftOut` when there is none."""
    if sample.clip.video is None:
        raise LeftOut("no_video")
    if sample.clip.caption in MISSING:
        raise LeftOut("odd_caption")
    aspect = sample.clip.video.width / sample.clip.video.height
    found = [(number, sample.refs(entity)) for number, entity in enumerate(sample.clip.entities)]
    middle = {number: str(refs[len(refs) // 2].member) for number, refs in found if refs}
    if not middle:
        raise LeftOut("no_reference")
    return {number: png(on_white(cutout(sample.members[member]), aspect)) for number, member in middle.items()}
