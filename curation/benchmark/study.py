"""`curation benchmark study`: which of several methods' videos people prefer, blind; a page that needs no server (PAPER.md §6).

The papers' form: the methods' videos of a clip side by side, the best by fidelity and the best by quality; here ties, too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.benchmark import folder, videos
from curation.benchmark.case import Mode, References
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.given import given
from curation.look.pages import templates
from curation.storage import replacing

QUESTIONS = {
    "fidelity": "Which shows what the pictures show most faithfully?",
    "quality": "Which is the best video?",
}
"""Ours; the papers print none."""
TIE = "tie"
SAMPLES = 200
"""The papers' number of clips in each mode (PAPER.md §6)."""
MEDIA = "media"
"""The folder of files beside the page."""
PLAYED = (".mp4", ".webm", ".png", ".jpg", ".jpeg", ".webp")
"""What browsers show."""


def make(
    methods: Sequence[str],
    benchmark: Path,
    output: Path,
    key: Path,
    mode: Mode = "subject",
    references: References = "single",
    background: bool = False,
    samples: int = SAMPLES,
    seed: int = 0,
) -> str:
    """Write the page `output`, the files it shows in `media/` beside it, and which are whose to `key`, which lies elsewhere.

    `methods`: folders with a file for each clip, `FOLDER` or `NAME=FOLDER`. Clips that all of them have, at most `samples`, drawn
    by the seed, which also decides order, sides and names. Gives a line to show. Raises `BenchmarkError`.
    """
    folders = named(methods)
    _check(output, key)
    cases = folder.cases(benchmark, mode)
    found = {name: videos.find(place, [case.key for case in cases])[0] for name, place in folders.items()}
    shared = [case for case in cases if all(case.key in files for files in found.values())]
    if not shared:
        raise BenchmarkError(f"{', '.join(folders)}: no clip of {benchmark} is in all of them")
    for name, files in found.items():
        if odd := next((files[case.key] for case in shared if files[case.key].suffix.lower() not in PLAYED), None):
            raise BenchmarkError(f"{name}: browsers do not play {odd.name}; they do {', '.join(PLAYED)}")
    draw = random.Random(seed)
    chosen = draw.sample(shared, min(samples, len(shared)))
    media = output.parent / MEDIA
    media.mkdir(parents=True)
    shown, sides = [], {}
    for number, case in enumerate(chosen):
        order = draw.sample(list(folders), len(folders))
        copies = {name: _copied(found[name][case.key], media, draw) for name in order}
        pictures = [
            {"file": _copied(file, media, draw), "word": word} for file, word, _ in given(case, mode, references, background)
        ]
        shown.append({"id": f"{number:03d}", "prompt": case.prompt, "pictures": pictures, "videos": list(copies.values())})
        sides[f"{number:03d}"] = {"key": case.key, "files": {copy: name for name, copy in copies.items()}}
    study = _study(sides)
    facts = {"benchmark": str(benchmark), "mode": mode, "references": references, "background": background, "seed": seed}
    told = {"study": study, "methods": {name: str(place) for name, place in folders.items()}, **facts, "samples": sides}
    with replacing(output) as temporary:
        temporary.write_text(page(study, shown), encoding="utf-8")
    with replacing(key) as temporary:
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    left = f", {len(cases) - len(shared)} clips are not in all of them" if len(shared) < len(cases) else ""
    return f"{output}: {len(chosen)} clips, {len(folders)} methods{left}; whose are whose: {key}"


def named(methods: Sequence[str]) -> dict[str, Path]:
    """Name → folder. Raises `BenchmarkError`."""
    found: dict[str, Path] = {}
    for text in methods:
        name, equals, place = text.partition("=")
        path = Path(place if equals else text)
        name = name if equals else path.resolve().name
        if name in found:
            raise BenchmarkError(f"two methods are called {name!r}: write NAME={path}")
        if not name or name == TIE or not path.is_dir():
            raise BenchmarkError(f"{text}: give folders of videos, FOLDER or NAME=FOLDER")
        found[name] = path
    if len(found) < 2:
        raise BenchmarkError("a study compares two methods or more")
    return found


def _check(output: Path, key: Path) -> None:
    """Raises `BenchmarkError`."""
    if output.suffix != ".html":
        raise BenchmarkError(f"--output {output}: the page's name ends in .html")
    if key.resolve().is_relative_to(output.parent.resolve()):
        raise BenchmarkError(f"--key {key}: raters get {output.parent}/ whole; what is whose must lie outside of it")
    for path in (output, output.parent / MEDIA, key):
        if path.exists():
            raise BenchmarkError(f"{path} is there already: take another name, or remove it")


def _copied(file: Path, media: Path, draw: random.Random) -> str:
    """Copy content alone under a random name."""
    name = f"{draw.getrandbits(64):016x}{file.suffix.lower()}"
    shutil.copyfile(file, media / name)
    return f"{MEDIA}/{name}"


def _study(sides: Mapping[str, Any]) -> str:
    """What tells one study from another: votes say of which they are."""
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:12]


def page(study: str, shown: Sequence[Mapping[str, Any]]) -> str:
    """All that comes from strangers is data, not markup; the page runs no script but its own, and talks to nobody."""
    here = Path(__file__).parent
    script, style = ((here / f"study.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    data = json.dumps({"study": study, "samples": shown, "questions": QUESTIONS, "tie": TIE}, ensure_ascii=True)
    given_in = {"data": data.replace("<", "\\u003c"), "script": script, "style": style}
    hashes = {f"{name}_hash": _hash(given_in[name]) for name in ("script", "style")}
    return templates("curation.benchmark").get_template("study.html.j2").render(**given_in, **hashes)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
