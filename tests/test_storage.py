"""Storage: the same on a disk, in S3 and behind another of fsspec's filesystems; what breaks, and what then is seen."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curation.faults import is_infrastructure
from curation.remote import lease, objects, patience
from curation.storage import TEMPORARY, ClaimLost, Storage, StorageError, replacing, temporary_name
from tests.objects import SLOW_DOWN, Gate, S3Server, forget

ROOT = 'a run [1] – it\'s "é" #2'
"""What a folder may be called."""


@pytest.fixture(params=["disk", "s3", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    root = {"disk": lambda: tmp_path, "s3": lambda: request.getfixturevalue("s3"), "memory": lambda: f"memory://{tmp_path}"}
    return Storage.at(f"{root[request.param]()}/{ROOT}/run")


@pytest.fixture
def gate(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch):
    """Before the server; the client's own tries and pauses are off, ours short."""
    gate = Gate(s3_server.port, serial=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    forget()
    yield gate
    gate.close()


def bucket_holds(storage: Storage) -> list[str]:
    """Everything in a folder, hidden or not."""
    if storage.is_local:
        return sorted(str(p.relative_to(storage.root)) for p in Path(storage.root).rglob("*") if p.is_file())
    root = storage.key()
    return sorted(key.removeprefix(root).lstrip("/") for key in storage.filesystem().find(root))


# ---------------------------------------------------------------- every method


def test_what_is_written_is_read(storage):
    storage.write("units/00000/000001.parquet", b"\0\xff" * 9)
    storage.write("run.json", '{"é": 1}')
    assert storage.read("units/00000/000001.parquet") == b"\0\xff" * 9
    assert storage.read("run.json").decode() == '{"é": 1}'
    assert storage.exists("run.json") and storage.size("run.json") == 9
    storage.write("run.json", b"")
    assert storage.read("run.json") == b"" and storage.size("run.json") == 0
    assert storage.path("run.json").endswith(f"{ROOT}/run/run.json")


def test_listings(storage):
    for name in ("shards/b.tar", "shards/a.tar", "shards/a.parquet", "shards/.hidden", "shards/sub/c", "other/x"):
        storage.write(name, name)
    assert storage.names("shards") == {"a.parquet": 16, "a.tar": 12, "b.tar": 12}
    assert list(storage.names("shards")) == ["a.parquet", "a.tar", "b.tar"]
    assert storage.folders("shards") == ["sub"] and storage.folders() == ["other", "shards"]
    assert storage.names() == {} and storage.names("nothing") == {} and storage.folders("nothing") == []


def test_a_listing_is_never_stale(storage):
    assert storage.names("plan") == {} and not storage.exists("plan/a")
    other = pickle.loads(pickle.dumps(storage))
    other.write("plan/a", "a")
    assert storage.names("plan") == {"a": 1} and storage.exists("plan/a")
    other.remove("plan/a")
    assert storage.names("plan") == {} and not storage.exists("plan/a")


def test_what_is_not_there(storage):
    storage.write("folder/file", "x")
    assert not storage.exists("none") and storage.size("none") is None
    assert not storage.exists("folder") and storage.size("folder") is None
    for ask in (storage.read, storage.open, lambda name: storage.read_range(name, 0, 1)):
        with pytest.raises(FileNotFoundError) as error:
            ask("none")
        assert "none" in str(error.value) and "\n" not in str(error.value)
    storage.remove("none", "folder/none")
    storage.remove_folder("none")
    storage.sweep("none")


def test_ranges_and_seeking(storage):
    data = bytes(range(256)) * 1000
    storage.write("a", data)
    assert storage.read_range("a", 1000, 300) == data[1000:1300]
    assert storage.read_range("a", len(data) - 2, 10) == data[-2:]
    assert storage.read_range("a", len(data), 10) == b"" and storage.read_range("a", 5, 0) == b""
    with storage.open("a") as file:
        assert file.read(10) == data[:10]
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:] and file.read(1) == b""
        file.seek(70_000)
        assert file.read(3) == data[70_000:70_003] and file.tell() == 70_003


def test_removing(storage):
    for name in ("units/0/a", "units/0/b", "units/1/deep/c", "units0", "keep"):
        storage.write(name, "x")
    storage.remove("units/0/a", "missing", "units/0/a")
    assert storage.names("units/0") == {"b": 1}
    storage.remove_folder("units")
    assert bucket_holds(storage) == ["keep", "units0"]
    assert storage.folders() == []


def test_s3_removes_in_bulk_and_says_what_it_could_not(s3, gate, monkeypatch):
    monkeypatch.setattr(objects, "BULK", 3)
    storage = Storage.at(s3)
    for i in range(7):
        storage.write(f"units/{i}", "x")
    gate.heard.clear()
    storage.remove_folder("units")
    assert gate.count("POST") == 3 and gate.count("DELETE") == 0 and storage.names("units") == {}
    denied = b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    gate.rule = lambda method, path: (200, denied) if method == "POST" else None
    with pytest.raises(PermissionError, match="AccessDenied a"):
        storage.remove("a")


def test_a_stream(storage):
    with storage.writing("a/b") as file:
        for i in range(5):
            file.write(bytes([i]) * 10)
        assert not storage.exists("a/b")
    assert storage.read("a/b") == b"".join(bytes([i]) * 10 for i in range(5))


def test_a_stream_that_breaks_leaves_no_trace(storage):
    storage.write("a", "old")
    with pytest.raises(ValueError, match="mine"), storage.writing("a") as file:
        file.write(b"new" * 1000)
        raise ValueError("mine")
    assert storage.read("a") == b"old" and bucket_holds(storage) == ["a"]


def test_joining(storage):
    """Parts larger than 5 MiB and smaller: S3 takes no small ones."""
    parts = {"units/a": b"a" * (6 << 20), "units/b": b"", "units/c": b"c" * 1000, "units/d": b"d" * (33 << 20)}
    for name, data in parts.items():
        storage.write(name, data)
    storage.join(list(parts), "shards/s.tar", bytes(10_240))
    assert storage.read("shards/s.tar") == b"".join(parts.values()) + bytes(10_240)
    with pytest.raises(FileNotFoundError):
        storage.join(["units/a", "units/none"], "shards/t.tar", b"tail")
    storage.join([], "shards/empty", b"tail")
    assert list(storage.names("shards")) == ["empty", "s.tar"]


def test_s3_takes_large_files_in_parts(s3, gate):
    storage = Storage.at(s3)
    with storage.writing("large") as file:
        file.write(os.urandom(40 << 20))
        file.seek(0)
        data = file.read()
    assert sum("partNumber" in path for _, path in gate.heard) == 3
    assert storage.read("large") == data
    gate.heard.clear()
    storage.write("small", b"x")
    assert gate.count("PUT") == 1 and gate.count("POST") == 0


@pytest.mark.parametrize("answer", ["EXDEV", "ENOSYS", "nothing", "little"])
def test_a_disk_whose_kernel_does_not_copy(tmp_path, monkeypatch, answer):
    real, calls = os.copy_file_range, []

    def copy(source, target, count):
        calls.append(count)
        if answer == "little":
            if len(calls) % 3 == 0:
                raise OSError(errno.EINVAL, "half way")
            return real(source, target, 1000)
        if answer == "nothing":
            return 0
        raise OSError(getattr(errno, answer), answer)

    monkeypatch.setattr(os, "copy_file_range", copy)
    storage = Storage.at(tmp_path)
    parts = {"a": os.urandom(100_000), "b": b"", "c": os.urandom(5000)}
    for name, data in parts.items():
        storage.write(name, data)
    storage.join(list(parts), "all", b"tail")
    assert storage.read("all") == b"".join(parts.values()) + b"tail" and calls


def test_an_error_of_the_disk_while_joining_is_raised(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "broken")

    storage = Storage.at(tmp_path)
    storage.write("a", "x")
    monkeypatch.setattr(os, "copy_file_range", broken)
    with pytest.raises(OSError, match="broken.*all"):
        storage.join(["a"], "all", b"")
    assert bucket_holds(storage) == ["a"]


def test_arrow_scans(storage):
    for i in range(3):
        with storage.writing(f"shards/shard-{i}.parquet") as file:
            pq.write_table(pa.table({"i": [i] * 4, "verdict": ["kept", "failed"] * 2}), file)
    fs, prefix = pickle.loads(pickle.dumps(storage.arrow()))
    table = ds.dataset([f"{prefix}/shards/{name}" for name in storage.names("shards")], filesystem=fs, format="parquet")
    assert table.count_rows(filter=ds.field("verdict") == "kept") == 6
    assert table.to_table(columns=["i"])["i"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    assert ds.dataset(f"{prefix}/shards", filesystem=fs, format="parquet").count_rows() == 12
    assert pq.read_table(storage.open("shards/shard-1.parquet")).num_rows == 4


# ---------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("s4://bucket/x", "s4:// is not known"),
        ("s3:/bucket/x", "begins with s3://"),
        ("s3://", "names no bucket"),
        ("s3://no-such-bucket-of-ours/x", "no such bucket"),
        ("s3://a,b/x", "nvalid bucket name"),
        ("gs://bucket/x", "gcsfs"),
        ("", "empty path"),
    ],
)
def test_a_wrong_place_is_one_line(s3, where, said):
    with pytest.raises(StorageError) as error:
        Storage.at(where)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_local_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Storage.at("run") == Storage.at(Path("run")) == Storage.at(f"file://{tmp_path}/run") == Storage(f"{tmp_path}/run")
    assert Storage.at("run").is_local and Storage.at("run").local("a/b") == tmp_path / "run/a/b"
    assert Storage.at("a:b/c").root == f"{tmp_path}/a:b/c" and not (tmp_path / "run").exists()


def test_a_bucket_that_may_not_be_read_or_written_is_one_line(s3, gate, monkeypatch):
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    gate.rule = lambda method, path: (403, denied)
    with pytest.raises(StorageError, match="no permission"):
        Storage.at(f"{s3}/run")
    gate.rule = lambda method, path: (403, denied) if method == "PUT" else None
    with pytest.raises(StorageError, match="no permission"), Storage.at(f"{s3}/run").claim():
        pass
    gate.rule = lambda method, path: None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget()
    with pytest.raises(StorageError, match="credentials"):
        Storage.at(f"{s3}/run")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"--output .*/file/run: Not a directory"), Storage.at(tmp_path / "file/run").claim():
        pass


def test_a_bucket_that_vanishes_is_no_empty_folder(s3, s3_server):
    storage = Storage.at(s3)
    storage.filesystem().rmdir(storage.key())
    for ask in (storage.names, storage.folders, storage.exists, storage.read, storage.remove_folder):
        with pytest.raises(OSError, match="no such bucket") as error:
            ask("shards")
        assert not isinstance(error.value, FileNotFoundError)


# ---------------------------------------------------------------- a store that is away


def ways(storage: Storage) -> dict[str, object]:
    return {
        "write": lambda: storage.write("w", "x"),
        "read": lambda: storage.read("a"),
        "range": lambda: storage.read_range("a", 0, 1),
        "size": lambda: storage.size("a"),
        "open": lambda: storage.open("a").read(),
        "names": lambda: storage.names(),
        "folders": lambda: storage.folders(),
        "join": lambda: storage.join(["a", "a"], "j", b"t"),
        "remove": lambda: storage.remove("w"),
        "remove_folder": lambda: storage.remove_folder("f"),
        "sweep": lambda: storage.sweep(),
        "arrow": lambda: ds.dataset(f"{storage.arrow()[1]}/p/t", filesystem=storage.arrow()[0]).to_table(),
        "claim": lambda: storage.claim().__enter__(),
    }


HINDRANCES = {"slow down": (503, SLOW_DOWN), "bad gateway": (502, b"<html>"), "internal": (500, b""), "cut": "cut"}


@pytest.mark.parametrize("hindrance", [*HINDRANCES, "half"])
def test_a_store_that_is_away_for_a_while(s3, gate, hindrance):
    """Every request is refused twice before it passes."""
    storage = Storage.at(s3)
    storage.write("a", b"x" * 100)
    storage.write("f/b", "y")
    with storage.writing("p/t") as file:
        pq.write_table(pa.table({"i": [1]}), file)
    tries: dict[tuple[str, str], int] = {}

    def rule(method, path):
        tries[method, path] = tries.get((method, path), 0) + 1
        return HINDRANCES.get(hindrance, "half") if tries[method, path] <= 2 else None

    gate.rule = rule
    for name, call in ways(storage).items():
        tries.clear()
        call()
        assert tries, name
    assert storage.read("j") == b"x" * 200 + b"t" and storage.names("f") == {}


def test_tries_do_not_multiply(s3, gate, monkeypatch):
    """Of botocore, s3fs and ours each has its own."""
    storage = Storage.at(s3)
    monkeypatch.setattr(patience, "PATIENCE", 0)
    gate.rule = lambda method, path: "cut"
    for call in (lambda: storage.read_range("a", 0, 1), lambda: storage.write("a", "x")):
        gate.heard.clear()
        with pytest.raises(OSError, match=s3):
            call()
        assert len(gate.heard) <= 2  # a kept connection that was cut is opened once more


def test_a_part_of_a_large_upload_that_is_refused(s3, gate):
    storage = Storage.at(s3)
    refused = []

    def rule(method, path):
        if "partNumber=2" in path and len(refused) < 2:
            refused.append(path)
            return 503, SLOW_DOWN
        return None

    gate.rule = rule
    storage.write("large", data := os.urandom(40 << 20))
    assert len(refused) == 2 and storage.read("large") == data
    assert "Uploads" not in storage._call("", "list_multipart_uploads", Bucket=storage.key())


def test_an_answer_that_is_lost(s3, gate):
    storage = Storage.at(s3)
    lost = []

    def rule(method, path):
        if (method, path) in lost:
            return None
        lost.append((method, path))
        return "lost"

    gate.rule = rule
    storage.write("a", "x")
    storage.remove("b")
    with storage.claim() as claim:
        assert claim.held and storage.read("a") == b"x"


def test_a_slow_answer(s3, gate, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.setattr(S3FileSystem, "read_timeout", 0.3)
    forget()
    storage = Storage.at(s3)
    slow = iter([1.0, 1.0])

    def rule(method, path):
        time.sleep(next(slow, 0))

    gate.rule = rule
    storage.write("a", "x")
    assert storage.read("a") == b"x" and gate.count("PUT") >= 3


@pytest.mark.parametrize("hindrance", HINDRANCES)
def test_a_store_that_stays_away(s3, gate, monkeypatch, hindrance):
    storage = Storage.at(s3)
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    gate.rule = lambda method, path: HINDRANCES[hindrance]
    for name, call in ways(storage).items():
        with pytest.raises((OSError, StorageError)) as error:
            call()
        assert s3.removeprefix("s3://") in str(error.value) and "\n" not in str(error.value), name
        assert is_infrastructure(error.value) or name == "claim"
    gate.close()  # nobody listens
    with pytest.raises(OSError, match=s3) as error:
        storage.write("a", "x")
    assert is_infrastructure(error.value)
    with pytest.raises(StorageError, match=s3):
        Storage.at(s3)


# ---------------------------------------------------------------- claims


def test_one_driver_at_a_time(storage):
    if storage.path().startswith("memory"):
        pytest.skip("such a store cannot be claimed")
    with storage.claim() as claim:
        assert claim.held
        storage.write("a", "x")
        with pytest.raises(StorageError, match="another run is at work in .*run"), storage.claim():
            pass
        assert claim.held and storage.names() == {"a": 1}
    with storage.claim() as again:
        assert again.held


def test_other_stores_say_that_they_cannot_be_claimed(tmp_path):
    storage = Storage.at(f"memory://{tmp_path}")
    with pytest.warns(UserWarning, match="cannot be claimed") as warned, storage.claim() as claim:
        assert claim.held and warned[0].filename == __file__
        storage.write("a", "x")
    assert bucket_holds(storage) == ["a"]


def test_a_store_that_passes_over_conditions(s3, gate, monkeypatch):
    """Then a claim would be worth nothing: it is said."""
    storage = Storage.at(s3)
    real = objects.ObjectStore.put_if
    monkeypatch.setattr(objects.ObjectStore, "put_if", lambda self, name, content, meta, **_: real(self, name, content, meta))
    with pytest.warns(UserWarning, match="cannot be claimed"), storage.claim():
        storage.write("a", "x")
    assert bucket_holds(storage) == ["a"]


HOLD = """
import sys, time
from curation.remote import lease
from curation.storage import Storage, StorageError
lease.RENEW, lease.STALE = float(sys.argv[2]), float(sys.argv[3])
try:
    with Storage.at(sys.argv[1]).claim() as claim:
        print("held", flush=True)
        sys.stdin.read()
        print("still" if claim.held else "lost", flush=True)
except StorageError as error:
    print(error, flush=True)
"""


def hold(root: str, renew: float = 10, stale: float = 60) -> subprocess.Popen[str]:
    """A driver that holds a claim until its input ends."""
    command = [sys.executable, "-c", HOLD, root, str(renew), str(stale)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_of_several_processes_one_wins(place, request, tmp_path):
    root = str(tmp_path / "run") if place == "disk" else f"{request.getfixturevalue('s3')}/run"
    if place == "s3":
        request.getfixturevalue("gate")  # one request at a time, as a condition is meant: moto looks and puts in two steps
    processes = [hold(root) for _ in range(5)]
    words = sorted(said(process)[:30] for process in processes)
    assert words[:4] == ["another run is at work in " + root[:4]] * 4 and words[4] == "held"
    assert sorted(process.communicate()[0] for process in processes) == ["", "", "", "", "still\n"]


def test_a_claim_on_a_disk_ends_with_its_process(tmp_path):
    storage = Storage.at(tmp_path / "run")
    process = hold(storage.root)
    assert said(process) == "held"
    with pytest.raises(StorageError, match="another run is at work"), storage.claim():
        pass
    process.kill()
    process.wait()
    with storage.claim() as claim:
        assert claim.held


def test_a_claim_in_s3_is_free_some_time_after_its_process_was_killed(s3, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.5)
    monkeypatch.setattr(lease, "STALE", 4.0)
    storage = Storage.at(f"{s3}/run")
    process = hold(storage.root, 0.5, 4)
    assert said(process) == "held"
    time.sleep(6)  # longer than a claim lives that is not renewed
    with pytest.raises(StorageError, match=r"process \d+ on .*, last heard of \d s ago"), storage.claim():
        pass
    process.kill()
    process.wait()
    with pytest.raises(StorageError, match="another run is at work"), storage.claim():
        pass
    wait(lambda: (found := storage.head(".lock")) and found.age > 4)
    with storage.claim() as claim:
        assert claim.held and storage.exists(".lock")
    assert not storage.exists(".lock")


def test_a_claim_that_another_took(s3, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.1)
    storage = Storage.at(s3)
    with storage.claim() as claim:
        storage.filesystem().pipe_file(storage.key(".lock"), b"mine now")
        wait(lambda: not claim.held)
        for write in (storage.write, lambda *a: storage.join([], *a), lambda *a: storage.remove(a[0])):
            with pytest.raises(ClaimLost, match=f"the claim of {s3} was lost: another run took it"):
                write("a", b"x")
        assert storage.names() == {} and storage.size(".lock") == 8
    assert storage.read(".lock") == b"mine now"  # nothing of ours is given back


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_a_claim_that_ends_while_a_file_is_written(place, request, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.1)
    storage = Storage.at(tmp_path if place == "disk" else request.getfixturevalue("s3"))
    with storage.claim() as claim:
        with pytest.raises(ClaimLost), storage.writing("a") as file:
            file.write(b"x")
            storage.remove(".lock")  # the user's hand would do it
            wait(lambda: not claim.held)
        assert bucket_holds(storage) == []


def test_a_claim_that_cannot_be_renewed(s3, gate, monkeypatch):
    """It is not counted on after a while; when the store is back and nobody took it, it is held again."""
    monkeypatch.setattr(lease, "RENEW", 0.2)
    monkeypatch.setattr(lease, "STALE", 1.5)
    storage = Storage.at(s3)
    with storage.claim() as claim:
        gate.rule = lambda method, path: (503, SLOW_DOWN) if path.endswith(".lock") else None
        time.sleep(0.5)
        assert claim.held
        wait(lambda: not claim.held)
        with pytest.raises(ClaimLost, match="could not be renewed for"):
            storage.write("a", "x")
        gate.rule = lambda method, path: None
        wait(lambda: claim.held)
        storage.write("a", "x")
    assert bucket_holds(storage) == ["a"]


@pytest.mark.parametrize("how", ["folder", "lock"])
def test_a_claim_on_a_disk_that_vanishes(tmp_path, how):
    storage = Storage.at(tmp_path / "run")
    with storage.claim() as claim:
        if how == "folder":
            storage.local().rename(tmp_path / "gone")
            storage.local().mkdir()
        else:
            storage.local(".lock").unlink()
            storage.local(".lock").touch()
        assert not claim.held
        with pytest.raises(ClaimLost, match="was lost"):
            storage.write("a", "x")
        assert storage.names() == {}


def test_a_disk_without_locks(tmp_path, monkeypatch):
    """As some network filesystems are: the lock is then a file that a killed run leaves behind."""
    import fcntl

    def missing(*_):
        raise OSError(errno.ENOSYS, "no flock")

    monkeypatch.setattr(fcntl, "flock", missing)
    storage = Storage.at(tmp_path)
    said = "knows no locks; a run that is killed leaves .*lock: delete it"
    with pytest.warns(UserWarning, match=said) as warned, storage.claim() as claim:
        assert claim.held
        with pytest.raises(StorageError, match=r"another run is at work in .*\(or was killed.*delete"), storage.claim():
            pass
    assert len(warned) == 1 and warned[0].filename == __file__


def wait(until, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- crashes, processes, threads

CRASH = """
import os, sys
from curation.storage import Storage
storage = Storage.at(sys.argv[1])
with storage.writing("shards/a.tar") as file:
    file.write(b"x" * 100_000)
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_writer_that_is_killed_leaves_nothing_to_see(storage):
    if storage.path().startswith("memory"):
        pytest.skip("one process has that store")
    storage.write("shards/b.tar", "b")
    command = [sys.executable, "-c", CRASH, storage.root]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert said(process) == "writing"
    process.kill()
    process.wait()
    assert storage.names("shards") == {"b.tar": 1} and storage.folders("shards") == []
    assert len(bucket_holds(storage)) == (2 if storage.is_local else 1)
    storage.write("shards/.mine", "no temporary")
    storage.sweep()
    storage.sweep("shards")
    assert bucket_holds(storage) == ["shards/.mine", "shards/b.tar"]


def test_sweeping_ends_uploads_that_nobody_ends(s3):
    storage = Storage.at(f"{s3}/run")
    bucket = storage.key().partition("/")[0]
    for key in ("run/shards/a.tar", "run/units/0/a.tar", "other/shards/a.tar"):
        storage._call("", "create_multipart_upload", Bucket=bucket, Key=key)
    storage.sweep("shards")
    left = storage._call("", "list_multipart_uploads", Bucket=bucket)["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["other/shards/a.tar", "run/units/0/a.tar"]


class Moving(MemoryFileSystem):
    """A filesystem where a file is seen while it is written, that renames and remembers listings: as sftp, HDFS and others."""

    protocol = "moving"
    store: dict[str, object] = {}
    moved: list[str] = []
    broken = False

    def ls(self, path, detail=True, **options):
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=detail, **options)
        return self.dircache[path]

    def invalidate_cache(self, path=None):
        self.dircache.clear()

    def mv(self, path1, path2, **_):
        if Moving.broken:
            raise PermissionError("no")
        Moving.moved.append(path1)
        self.store[path2] = self.store.pop(path1)


def test_where_a_put_is_not_whole_a_temporary_is_moved(tmp_path):
    fsspec.register_implementation("moving", Moving, clobber=True)
    storage = Storage.at(f"moving://{tmp_path}")
    storage.write("f/a", "x")
    with storage.writing("f/b") as file:
        file.write(b"y")
    assert [TEMPORARY.fullmatch(Path(path).name) is not None for path in Moving.moved] == [True, True]
    assert storage.names("f") == {"a": 1, "b": 1}
    Moving.broken = True
    with pytest.raises(PermissionError, match=f"{tmp_path}/f/c"):
        storage.write("f/c", "x")
    for name in (temporary_name("d"), "e"):
        storage.filesystem().pipe_file(storage.key(f"f/{name}"), b"x")
    assert storage.names("f") == {"a": 1, "b": 1, "e": 1} and len(bucket_holds(storage)) == 4
    storage.sweep("f")
    assert bucket_holds(storage) == ["f/a", "f/b", "f/e"]


def test_a_full_disk(tmp_path):
    storage = Storage.at(tmp_path / "run")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code = f"from curation.storage import Storage\nStorage({storage.root!r}).write('a.tar', bytes(1 << 21))"
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limited, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{storage.root}/a.tar'"
    assert bucket_holds(storage) == []


def _write_one(task: tuple[Storage, int]) -> bytes:
    storage, i = task
    storage.write(f"many/{i:03}", str(i) * 100)
    return storage.read(f"many/{i:03}")


@pytest.mark.parametrize("how", ["threads", "fork", "spawn"])
def test_many_at_once(storage, how):
    if storage.path().startswith("memory") and how != "threads":
        pytest.skip("one process has that store")
    storage.write("before", "the client is at work already")
    tasks = [(storage, i) for i in range(24)]
    if how == "threads":
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(_write_one, tasks))
    else:
        with get_context(how).Pool(2) as pool:
            found = pool.map(_write_one, tasks)
    assert found == [str(i).encode() * 100 for i in range(24)]
    assert list(storage.names("many")) == [f"{i:03}" for i in range(24)]


def test_writers_of_one_name_do_not_meet(tmp_path):
    """The last one's file is there, whole."""
    storage = Storage.at(tmp_path)
    contents = [bytes([i]) * 500_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: storage.write("same", content), contents))
    assert storage.read("same") in contents and bucket_holds(storage) == ["same"]


def test_replacing_a_file(tmp_path):
    target = tmp_path / "deep/a.json"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists() and temporary.parent == target.parent
    assert target.read_text() == "new"
    with pytest.raises(KeyError), replacing(target, durable=False) as temporary:
        temporary.write_text("newer")
        raise KeyError
    assert [p.name for p in target.parent.iterdir()] == ["a.json"] and target.read_text() == "new"


def test_what_is_published_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """The order of the system calls: file, name, folder."""
    real, seen = os.fsync, []

    def fsync(descriptor):
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, (tmp_path / "a").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    Storage.at(tmp_path).write("a", "x")
    assert [there for _, there in seen] == [False, True]
    assert seen[0][0].startswith(".a.") and seen[1][0] == tmp_path.name


def test_storage_imports_nothing_of_a_cloud():
    code = "import sys, curation.storage; print(sorted({'fsspec', 'pyarrow', 's3fs', 'boto3', 'aiohttp'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_names_of_temporaries_differ():
    made = {temporary_name("a.tar") for _ in range(100)}
    assert len(made) == 100 and all(TEMPORARY.fullmatch(name) for name in made)
    assert not TEMPORARY.fullmatch(f"a.{secrets.token_hex(8)}.tmp")
