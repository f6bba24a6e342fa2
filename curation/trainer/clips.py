"""The clips of finished runs as columns, ordered so that those of a bucket are a few ranges of rows: what the plan draws from."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curation import ledger
from curation.buckets import fits
from curation.sample import KEPT
from curation.shards import sidecar
from curation.shards.sidecar import Latents, Text
from curation.storage import Storage, StorageError
from curation.trainer.errors import TrainerError

if TYPE_CHECKING:
    from curation.trainer.data import Data

COLUMNS = ("key", "shard", "offset", "size", "width", "height", "fps", "frames", "video")
"""Of a ledger, and of an index that `curation shards index` made; `shard` of an index is the tar's path or URL."""
WEIGHT = re.compile(r"(.+)=(\d+(?:\.\d+)?)")
HASHED = 1 << 32


@dataclass(frozen=True)
class Run:
    """Where clips come from, and their share among several."""

    where: str
    weight: float = 1.0

    @staticmethod
    def of(text: str) -> Run:
        """`PATH` or `PATH=WEIGHT`. Raises `TrainerError`."""
        found = WEIGHT.fullmatch(text)
        if found and float(found[2]) == 0:
            raise TrainerError(f"--shards {text}: the weight is more than 0")
        return Run(found[1], float(found[2])) if found else Run(text)


@dataclass(frozen=True)
class Group:
    """Rows [first, last) of one run whose clips fit the same buckets: bit i of `mask` is the i-th."""

    run: int
    mask: int
    first: int
    last: int


@dataclass(frozen=True)
class Clips:
    """One row per clip, 28 bytes each; the same on every process that reads the same ledgers."""

    runs: list[Run]
    tars: list[tuple[Storage, str]]
    """Where the tars lie: the folder, and the name in it."""
    tar: np.ndarray
    """int32, of `tars`."""
    offset: np.ndarray
    """int64, bytes."""
    size: np.ndarray
    """int64, bytes."""
    frames: np.ndarray
    """int32."""
    fps: np.ndarray
    """float32, frames per second of time."""
    groups: list[Group]
    passed_over: Counter[str]
    """Clips that no bucket takes, by reason: no_video, too_short, too_small, too_much_cropped, no_latents, no_embeddings."""
    latents: Latents | None = None
    text: Text | None = None
    """What was encoded before, in sidecars."""
    latent: np.ndarray | None = None
    words: np.ndarray | None = None
    """int64, of each clip its row in them."""

    def __len__(self) -> int:
        return len(self.tar)

    @property
    def digest(self) -> str:
        """Of which clips there are and where they lie, to tell whether a plan made of them is the same."""
        digest = hashlib.sha256(repr([name for _, name in self.tars] + [(g.run, g.mask, g.last) for g in self.groups]).encode())
        for column in (self.tar, self.offset, self.size):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def fitting(self, run: int, bucket: int) -> list[tuple[int, int]]:
        """Ranges of rows of a run's clips that the bucket of this number takes."""
        return [(g.first, g.last) for g in self.groups if g.run == run and g.mask >> bucket & 1]

    def place(self, row: int) -> str:
        """For messages: the tar and where in it."""
        storage, name = self.tars[self.tar[row]]
        return f"{storage.path(name)} at byte {self.offset[row]}"


def read(runs: Sequence[Run], data: Data, sidecars: Sequence[str] = ()) -> tuple[Clips, Clips]:
    """The clips to train on, and those held out: all of a source video's clips fall on one side, by a hash of its identifier.

    `sidecars`: runs of `encode_latents` and `encode_captions`, or folders in which such shards lie; then only clips that have
    latents, or embeddings, count, each for the buckets whose latents it has. Raises `TrainerError` where there are no ledgers.
    """
    tars: list[tuple[Storage, str]] = []
    parts: list[dict[str, np.ndarray]] = []
    keys: list[pa.Array] = []
    passed: Counter[str] = Counter()
    for number, run in enumerate(runs):
        for part, key in _columns(run, tars, data, passed):
            parts.append(part | {"run": np.full(len(part["tar"]), number, np.int16)})
            keys.append(key)
    empty = {name: np.zeros(0, kind) for name, kind in KINDS.items()}
    whole = {name: np.concatenate([empty[name], *(part[name] for part in parts)]) for name in KINDS}
    latents, text = _beside(whole, keys, data, sidecars, passed) if sidecars else (None, None)
    order = np.lexsort((whole["offset"], whole["tar"], whole["mask"], whole["run"]))
    whole = {name: column[order] for name, column in whole.items()}
    held = whole.pop("held")
    train, kept = ({name: column[side] for name, column in whole.items()} for side in (~held, held))
    given = {"runs": list(runs), "tars": tars, "latents": latents, "text": text}
    return _grouped(train, passed_over=passed, **given), _grouped(kept, passed_over=Counter(), **given)


def _beside(
    whole: dict[str, np.ndarray], keys: list[pa.Array], data: Data, sidecars: Sequence[str], passed: Counter[str]
) -> tuple[Latents | None, Text | None]:
    """Leave of the clips, in place, those that have what was encoded, and say where."""
    try:
        latents, text = sidecar.open_latents(sidecars), sidecar.open_text(sidecars)
        if latents:
            latents.check(fps=data.fps)
    except sidecar.SidecarError as error:
        raise TrainerError(str(error)) from error
    wanted, taken = pa.chunked_array(keys, pa.string()), np.ones(len(whole["mask"]), bool)
    if latents:
        whole["latent"] = latents.rows(wanted)
        whole["mask"] &= np.append(latents.masks([bucket.name for bucket in data.table()]), np.uint64(0))[whole["latent"]]
        taken = whole["mask"] > 0
        passed["no_latents"] += int((~taken).sum())
    if text:
        whole["words"] = text.rows(wanted)
        there = whole["words"] >= 0
        passed["no_embeddings"] += int((taken & ~there).sum())
        taken &= there
    for name in whole:
        whole[name] = whole[name][taken]
    return latents, text


KINDS = {"run": np.int16, "mask": np.uint64, "tar": np.int32, "offset": np.int64, "size": np.int64, "frames": np.int32} | {
    "fps": np.float32,
    "held": np.bool_,
}


def _grouped(columns: dict[str, Any], **given: Any) -> Clips:
    run, mask = columns.pop("run"), columns.pop("mask")
    starts = np.flatnonzero(np.r_[True, (run[1:] != run[:-1]) | (mask[1:] != mask[:-1])]) if len(run) else np.zeros(0, int)
    ends = [*starts[1:].tolist(), len(run)]
    groups = [Group(int(run[a]), int(mask[a]), int(a), b) for a, b in zip(starts, ends, strict=True)] if len(run) else []
    return Clips(groups=groups, **given, **columns)


def ledgers(where: str) -> tuple[Storage, list[str]]:
    """The ledgers of a run directory, or of a folder of shards or an index itself, by name. Raises `TrainerError`."""
    try:
        storage = Storage.at(where)
        folder, there = "shards/", storage.names("shards")
        if not there:
            folder, there = "", storage.names()
        names = sorted(there, key=lambda name: (len(name), name))
    except (OSError, StorageError) as error:
        raise TrainerError(f"--shards {where}: {error}") from error
    tables = [name for name in names if name.endswith(".parquet")]
    found = [folder + name for name in tables if not ledger.SIDECAR.fullmatch(name.removesuffix(".parquet"))]
    if not found:
        if any(name.endswith(".tar") for name in names):
            raise TrainerError(f"{where} has no ledgers: `curation shards index {where} --output INDEX` makes an index, once")
        hint = f"a run writes them, `curation run … --output {where}`"
        missing = storage.is_local and not Path(storage.root).is_dir()
        raise TrainerError(f"no shards at {where}: no such folder" if missing else f"no finished shards in {where}: {hint}")
    return storage, found


def dataset(where: str) -> tuple[Storage, str, ds.Dataset]:
    """Storage, the ledgers' folder in it, and all of them as one Arrow dataset. Raises `TrainerError`."""
    storage, names = ledgers(where)
    filesystem, root = storage.arrow()
    paths = [f"{root}/{name}" for name in names]
    try:
        found = ds.dataset(paths, format="parquet", filesystem=filesystem)
    except (OSError, pa.ArrowException) as error:
        raise TrainerError(f"{where}: its ledgers cannot be read: {' '.join(str(error).split())[:200]}") from error
    return storage, names[0].rpartition("/")[0], found


def tar_at(storage: Storage, folder: str, shard: str) -> tuple[Storage, str]:
    """Where the tar of a ledger's `shard` lies: beside the ledger, or where an index says."""
    if "/" in shard:
        root, _, name = shard.rpartition("/")
        return Storage.at(root or "/"), name
    return storage, f"{folder}/{shard}.tar" if folder else f"{shard}.tar"


def _columns(
    run: Run, tars: list[tuple[Storage, str]], data: Data, passed: Counter[str]
) -> Iterator[tuple[dict[str, np.ndarray], pa.Array]]:
    storage, folder, rows = dataset(run.where)
    kept = (ds.field("verdict") == KEPT) & ds.field("shard").is_valid() & (ds.field("shard") != "")
    if lacking := [name for name in (*COLUMNS, "verdict") if name not in rows.schema.names]:
        raise TrainerError(f"{run.where}: its tables are no ledgers: no column {lacking[0]!r}")
    numbers: dict[str, int] = {}
    batches = rows.to_batches(columns=list(COLUMNS), filter=kept, batch_readahead=4, fragment_readahead=4)
    try:
        for batch in batches:
            told = pc.is_valid(batch["frames"])
            if unknown := len(batch) - (told.true_count or 0):
                passed["no_video"] += unknown
            yield _fitting(batch.filter(told), storage, folder, numbers, tars, data, passed)
    except (OSError, pa.ArrowException) as error:
        raise TrainerError(f"{run.where}: its ledgers cannot be read: {' '.join(str(error).split())[:200]}") from error


def _fitting(
    batch: pa.RecordBatch,
    storage: Storage,
    folder: str,
    numbers: dict[str, int],
    tars: list[tuple[Storage, str]],
    data: Data,
    passed: Counter[str],
) -> tuple[dict[str, np.ndarray], pa.Array]:
    """A batch's clips that some bucket takes, and their keys. `numbers`: shards met so far, of this run."""
    told = {name: batch[name].to_numpy(zero_copy_only=False) for name in ("offset", "size", "frames", "fps", "width", "height")}
    video = told["width"], told["height"], told["fps"], told["frames"]
    mask, reasons = fits(data.table(), *video, data.fps, data.upscale, data.min_kept)
    passed.update(reasons)
    taken = mask > 0
    shards = batch["shard"].dictionary_encode()
    for shard in shards.dictionary.to_pylist():
        if shard not in numbers:
            numbers[shard] = len(tars)
            tars.append(tar_at(storage, folder, shard))
    tar = np.array([numbers[shard] for shard in shards.dictionary.to_pylist()] or [0], np.int32)[shards.indices.to_numpy()]
    columns = {"mask": mask, "tar": tar, **{name: told[name] for name in ("offset", "size", "frames", "fps")}}
    columns["held"] = held_out(batch["video"], data.holdout)
    return {name: column[taken].astype(KINDS[name]) for name, column in columns.items()}, batch["key"].filter(pa.array(taken))


def held_out(videos: pa.Array, share: float) -> np.ndarray:
    """Which clips are held out, bool: those of that share of source videos whose hash is lowest, whatever else there is."""
    encoded = videos.dictionary_encode()
    limit = share * HASHED
    low = [hashlib.sha256(str(video).encode()).digest()[:4] for video in encoded.dictionary.to_pylist()] if share else []
    chosen = np.array([int.from_bytes(digest, "big") < limit for digest in low] or [False], bool)
    return chosen[encoded.indices.to_numpy()] if share else np.zeros(len(videos), bool)


def sample(where: str, key: str | None) -> dict[str, bytes]:
    """The members, by suffix, of a clip, or of the first there is. Raises `TrainerError`."""
    storage, folder, rows = dataset(where)
    wanted = (ds.field("verdict") == KEPT) & (ds.field("shard") != "") if key is None else ds.field("key") == key
    found = rows.head(
        1, columns=["shard", "offset", "size", "verdict"], filter=wanted & (ds.field("verdict") == KEPT)
    ).to_pylist()
    if not found:
        raise TrainerError(f"no clip {key!r} in {where}: `curation inspect {where}` lists them")
    home, tar = tar_at(storage, folder, found[0]["shard"])
    return members(home, tar, found[0]["offset"], found[0]["size"])[1]


def members(
    storage: Storage, tar: str, offset: int, size: int, wanted: Callable[[str], bool] = lambda suffix: True
) -> tuple[str, dict[str, bytes]]:
    """Key and `wanted` members by suffix of a sample by its place. Raises `tarfile.TarError`, `ValueError`, `OSError`."""
    if storage.is_local:
        with storage.open(tar) as file:
            file.seek(offset)
            return _walked(file, offset + size, wanted)
    return _walked(io.BytesIO(storage.read_range(tar, offset, size)), size, wanted)


def _walked(file: IO[bytes], end: int, wanted: Callable[[str], bool]) -> tuple[str, dict[str, bytes]]:
    """What begins before `end`; of members that are not wanted no byte is read."""
    key, found = "", {}
    with tarfile.open(fileobj=file, mode="r:") as opened:
        while opened.offset < end and (member := opened.next()):
            key, suffix = ledger.key_and_suffix(member.name)
            if wanted(suffix) and (data := opened.extractfile(member)):
                found[suffix] = data.read()
                if len(found[suffix]) < member.size:
                    raise tarfile.ReadError(f"the tar ends within {member.name}")
    if not key:
        raise tarfile.ReadError("no members")
    return key, found
