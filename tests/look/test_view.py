from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from curation import ledger
from curation.inputs.files import InputError
from curation.look import clip as clips
from curation.look import decisions, sending, view
from curation.look.index import PAGE, Index
from curation.sample import REJECTED, Verdict
from curation.storage import Storage
from tests import objects
from tests.look.serving import Site, serving
from tests.shards import made
from tests.shards.made import failed, rejected, sample

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }}"


def scored(key: str, desirable: float, caption: str = "A man talks.", word: str = "man", **how) -> made.Sample:
    meta = {
        "extract_entities": {"entities": [{"word": word, "kind": "subject", "span": [2, 5]}]},
        "score_quality": {"label": "desirable", "probabilities": {"desirable": desirable}},
    }
    one = sample(key, **how, **meta)
    one.meta["source"]["caption"] = caption
    return one


def dropped(key: str, desirable: float, **how) -> made.Sample:
    return scored(key, desirable, **how).drop(Verdict(REJECTED, "score_quality", "low_desirable_score", "too low"))


UNITS = [
    [scored("a", 0.9), scored("b", 0.5, "A Dog runs.", "dog"), scored("c", 0.7, HOSTILE), dropped("d", 0.4)],
    [rejected("e"), failed("f", clip="F")],
]


@pytest.fixture
def run(tmp_path) -> Storage:
    storage = made.run(tmp_path / "run", UNITS, megabytes=0.001)
    storage.write("run.json", json.dumps({"recipe": {"clips": {"score_quality": {"min_desirable": 0.5}}}}))
    return storage


@pytest.fixture
def site(run):
    with serving(run) as found:
        yield found


def keys(site: Site, **query) -> list[str]:
    told = site.get("rows", **query).told
    assert told["total"] == len(told["rows"])
    return [row["key"] for row in told["rows"]]


@pytest.mark.parametrize(
    "query, found",
    [
        ({}, "abcdef"),
        ({"q": "dOg runs"}, "b"),
        ({"q": "man runs"}, ""),
        ({"q": "100% _"}, ""),
        ({"word": "dog"}, "b"),
        ({"verdict": "rejected"}, "de"),
        ({"stage": "split_shots", "reason": "no_frames"}, "f"),
        ({"quality": "desirable"}, "abcd"),
        ({"min.desirable": "0.5", "max.desirable": "0.7"}, "bc"),
        ({"kind": "face"}, ""),
        ({"sort": "-desirable"}, "acbdef"),
        ({"sort": "desirable", "verdict": "kept"}, "bca"),
        ({"sort": "-key"}, "fedcba"),
        ({"q": "", "verdict": ""}, "abcdef"),
    ],
    ids=str,
)
def test_rows_are_searched_filtered_and_sorted(site, query, found):
    assert keys(site, **query) == list(found)


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "scores"},
        {"sort": "key; DROP TABLE a1"},
        {"min.caption": "1"},
        {"min.desirable": "nan"},
        {"min.desirable": "1 OR true"},
        {"kind": "1=1"},
        {"decision": "maybe"},
        {"page": "-1"},
        {"page": "99999999999"},
        {'key" = key --': "x"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_said(site, query):
    answer = site.get("rows", **query)
    assert answer.status == 400 and answer.told["error"]
    assert keys(site, q="' OR 1=1 --") == [], "values are bound"


def test_pages_come_from_the_server(tmp_path):
    names = [f"k{i:03d}" for i in range(PAGE + 7)]
    storage = made.run(tmp_path / "run", [[rejected(name) for name in names]])
    with serving(storage) as site:
        pages = [site.get("rows", page=page).told for page in range(3)]
    assert [page["total"] for page in pages] == [PAGE + 7] * 3
    assert [[row["key"] for row in page["rows"]] for page in pages] == [names[:PAGE], names[PAGE:], []]


def test_a_kept_clip(site, run):
    told = site.get("clip", key="a").told
    assert (told["verdict"], told["caption"], told["lost"]) == ("kept", "A man talks.", [])
    assert set(told["members"]) == {"mp4", "json", "frame0.jpg"} and told["clip"]["entities"][0]["word"] == "man"
    assert told["ledger"]["scores"]["score_quality"]["probabilities"] == {"desirable": 0.9}
    score = next(score for score in told["scores"] if score["name"] == "desirable")
    assert (score["value"], score["below"], score["count"], sum(score["bars"])) == (0.9, 3, 4, 4)
    assert score["bounds"] == [{"knob": "score_quality.min_desirable", "kind": "least", "value": 0.5}]
    assert told["command"] == f"curation inspect {run.path()} a --extract some-folder"


def test_one_that_was_dropped_says_why(site):
    told = site.get("clip", key="d").told
    assert [told[name] for name in ("verdict", "stage", "reason", "detail")] == [
        *("rejected", "score_quality", "low_desirable_score", "too low")
    ]
    assert told["members"] == {} and told["stills"] == 0 and told["lost"] == []
    assert site.get("clip", key="f").told["verdict"] == "failed"
    assert site.get("clip", key="nobody").status == 404 and site.get("clip", key="a", of="b").status == 404


def test_members_come_by_range_out_of_the_tar(site, run):
    video = sample("a").files["mp4"]
    whole = site.get("member", key="a", suffix="mp4")
    assert (whole.status, whole.body, whole.headers["Content-Type"]) == (200, video, "video/mp4")
    assert whole.headers["Accept-Ranges"] == "bytes"
    for asked, begin, end in (("100-199", 100, 200), ("2900-", 2900, 3000), ("-7", 2993, 3000), ("2990-9999", 2990, 3000)):
        part = site.get("member", {"Range": f"bytes={asked}"}, key="a", suffix="mp4")
        assert (part.status, part.body) == (206, video[begin:end])
        assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/3000"
    assert site.get("member", {"Range": "bytes=3000-"}, key="a", suffix="mp4").status == 416
    assert site.get("member", {"Range": "bytes=0-1,5-6"}, key="a", suffix="mp4").body == video
    head = site.ask("HEAD", "/member?key=a&suffix=mp4")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "3000", b"")
    assert site.get("member", key="b", suffix="frame0.jpg").body == sample("b").files["frame0.jpg"]
    assert site.get("member", key="d", suffix="mp4").status == 404


def test_a_large_member_comes_whole(tmp_path):
    storage = made.run(tmp_path / "run", [[sample("a", size=3 * sending.AT_ONCE + 11)]], megabytes=9)
    with serving(storage) as site:
        assert site.get("member", key="a", suffix="mp4").body == sample("a", size=3 * sending.AT_ONCE + 11).files["mp4"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../../etc/passwd",
            "/view.js/../../../cli.py",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/page.html.j2",
            "/view.py",
            "//etc/passwd",
        ),
        *("/member?key=a&suffix=../../run.json", "/member?key=../run.json&suffix=mp4", "/member?key=a&suffix=/etc/passwd"),
        *("/clip?key=%00", "/clip?key=..%2F..", "/mask?key=a&entity=-1&frame=0", "/still?key=a&number=9", "/thumb?key=nobody"),
    ],
)
def test_no_path_leads_out_of_the_run(site, path):
    answer = site.ask("GET", path)
    assert answer.status in (400, 404) and b"root:" not in answer.body and b"recipe" not in answer.body


def test_headers_let_nothing_in_or_out(site):
    for path in ("", "view.js", "rows", "member?key=a&suffix=mp4", "nowhere"):
        headers = site.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"
    page = site.get("").body.decode()
    assert not re.search(r"<script(?! src=)|\son\w+=|style=|https?://", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", site.get("view.js").body.decode())


def test_a_hostile_caption_stays_text(site, tmp_path):
    answer = site.get("rows", q="onerror")
    assert answer.headers["Content-Type"].startswith("application/json") and answer.told["rows"][0]["caption"] == HOSTILE
    storage = made.run(tmp_path / "<img src=x onerror=alert(1)>", [[rejected("a")]])
    with serving(storage) as other:
        assert b"<img" not in other.get("").body


def test_a_member_that_is_no_picture_is_not_shown_as_a_page(tmp_path):
    one = sample("a")
    one.files["frame0.jpg"] = b"<html><script>alert(1)</script>"
    storage = made.run(tmp_path / "run", [[one]])
    with serving(storage) as site:
        assert site.get("member", key="a", suffix="frame0.jpg").headers["Content-Type"] == "image/jpeg"
        assert site.get("thumb", key="a").headers["Content-Type"] == "image/gif"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil.example:1"])
def test_a_strangers_name_is_not_answered(site, host):
    assert site.ask("GET", "/rows", Host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:99", "192.168.1.7"])
def test_own_names_are_answered(site, host):
    assert site.ask("GET", "/rows", Host=host).status == 200


def test_decisions_are_written_and_filtered_by(site, run):
    answer = site.post("decide", {"key": "b", "decision": "drop", "note": "two dogs"}, Origin=site.url)
    assert answer.status == 200 and answer.told["decision"] == "drop"
    site.post("decide", {"key": "a", "decision": "keep"})
    assert {key: found.decision for key, found in decisions.read(run).items()} == {"b": "drop", "a": "keep"}
    assert (
        keys(site, decision="drop") == ["b"]
        and keys(site, decision="open") == list("cdef")
        and keys(site, decision="note") == ["b"]
    )
    site.post("decide", {"key": "b", "decision": "", "note": ""})
    assert keys(site, decision="drop") == [] and decisions.dropped(run) == []
    assert site.get("clip", key="a").told["decision"]["decision"] == "keep"
    with serving(run) as later:
        assert keys(later, decision="keep") == ["a"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
    ids=str,
)
def test_another_page_may_not_decide(site, run, headers):
    assert site.post("decide", {"key": "a", "decision": "drop"}, **headers).status in (403, 415)
    assert not run.exists(decisions.NAME)


@pytest.mark.parametrize(
    "told",
    [{"key": "nobody", "decision": "drop"}, {"key": "a", "decision": "maybe"}, {"key": 7}, [], {"key": "a", "note": "x" * 2001}],
    ids=str,
)
def test_what_is_no_decision_is_not_written(site, run, told):
    assert site.post("decide", told).status in (400, 404) and not run.exists(decisions.NAME)
    assert site.ask("POST", "/decide", b"{", Content_Type="application/json").status == 400
    assert site.ask("POST", "/rows", b"{}", Content_Type="application/json").status == 405
    assert site.post("decide", {"key": "a", "note": "x" * 20_000}).status == 413


def test_a_truncated_tar_is_said(site, run):
    row = next(row for row in ledger.rows(run) if row["key"] == "c")
    tar = run.local(ledger.tar_of(row))
    data = tar.read_bytes()
    tar.write_bytes(data[: row["offset"] + row["size"] - 600])
    assert "ends early" in site.get("clip", key="c").told["lost"][0]
    assert site.get("member", key="c", suffix="mp4").status == 410
    assert site.get("clip", key="a").told["lost"] == []
    tar.write_bytes(data[:512] + b"\xff" * 512 + bytes(len(data) - 1024))
    assert site.get("member", key="c", suffix="mp4").status == 410 and site.get("thumb", key="c").status == 200
    tar.unlink()
    assert "not there" in site.get("clip", key="a").told["lost"][0]


def test_a_tar_that_was_written_anew_gives_no_other_sample(site, run):
    rows = {row["key"]: row for row in ledger.rows(run) if row["offset"] is not None}
    tar = run.local(ledger.tar_of(rows["a"]))
    tar.write_bytes(tar.read_bytes()[rows["a"]["size"] :] + bytes(9000))
    assert site.get("member", key="a", suffix="mp4").status == 410


def test_a_run_that_goes_on(tmp_path):
    storage = Storage.at(tmp_path / "run")
    made.write(storage, 0, [sample("a")])
    with serving(storage) as site:
        made.write(storage, 1, [sample("b")])
        assert keys(site) == ["a"]
        assert site.post("again", {}).status == 200 and keys(site) == ["a", "b"]
        made.pack.pack(storage, 0, 0, [0, 1], last=True)
        assert "look again" in site.get("clip", key="a").told["lost"][0]
        site.post("again", {})
        assert site.get("clip", key="a").told["lost"] == [] and site.get("member", key="b", suffix="mp4").status == 200
        made.run(storage.root, [[sample("b2", clip="b")]], group=3, attempt=1)
        site.post("again", {})
        assert keys(site) == ["a", "b", "b2"]


@pytest.mark.parametrize("old", [False, True])
def test_of_a_clip_that_was_tried_again_the_newest_counts(run, old):
    made.run(run.root, [[scored("F", 0.6)]], group=5, attempt=1)
    for name in ledger.files(run) if old else ():
        made.age(run, name)
    index = Index({"a": run})
    assert index.fill() == 6
    assert [row["key"] for row in index.page({"sort": "-desirable"})["rows"]] == list("ac") + ["F"] + list("bde")
    index.close()
    assert not index.folder.exists()


def test_a_run_in_a_bucket(s3, s3_server, monkeypatch):
    storage = made.run(f"{s3}/run", UNITS, megabytes=9)
    gate = objects.Gate(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    objects.forget()
    with serving(storage) as site:
        assert keys(site, verdict="kept") == list("abc")
        told = site.get("clip", key="a").told
        assert (told["lost"], told["ledger"]["key"]) == ([], "a") and set(told["members"]) == {"mp4", "json", "frame0.jpg"}
        before = gate.count("GET")
        assert site.get("member", {"Range": "bytes=100-199"}, key="a", suffix="mp4").body == sample("a").files["mp4"][100:200]
        assert site.get("member", key="a", suffix="frame0.jpg").body == sample("a").files["frame0.jpg"]
        assert gate.count("GET") - before == 2, "of a sample that was looked at each member is one request"
        assert site.get("mask", key="a", entity=0, frame=0).status == 410, "it has none"
        assert site.post("decide", {"key": "b", "decision": "drop"}).status == 200 and decisions.dropped(storage) == ["b"]
        tar = ledger.tar_of(next(ledger.rows(storage)))
        storage.write(tar, storage.read(tar)[1024:])
        assert site.get("member", key="a", suffix="mp4").status == 410, "what was remembered is of another tar"
    gate.close()


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no finished shard"):
        view.view(str(tmp_path))


def test_what_moved_between_two_runs_and_why(run, tmp_path):
    units = [[scored("a", 0.9), dropped("b", 0.3), dropped("c", 0.2), scored("d", 0.8)], [rejected("e"), sample("g")]]
    other = made.run(tmp_path / "other", units, megabytes=0.001)
    other.write("run.json", json.dumps({"recipe": {"clips": {"score_quality": {"min_desirable": 0.6}}}}))
    with serving(run, other) as site:
        told = site.get("moves").told
        assert told["settings"] == [["clips.score_quality.min_desirable", 0.5, 0.6]]
        moves = {(move["a_verdict"], move["b_verdict"], move["b_reason"]): move["count"] for move in told["moves"]}
        assert moves == {
            ("kept", "rejected", "low_desirable_score"): 2,
            ("rejected", "kept", ""): 1,
            ("failed", "", ""): 1,
            ("", "kept", ""): 1,
        }
        page = site.get("moved", a_verdict="kept", b_reason="low_desirable_score").told
        assert [(row["key"], row["scores"]["desirable"]) for row in page["rows"]] == [("b", [0.5, 0.3]), ("c", [0.7, 0.2])]
        assert page["total"] == 2 and page["rows"][0]["b_detail"] == "too low" and page["rows"][1]["caption"] == HOSTILE
        assert site.get("clip", key="g", of="b").told["verdict"] == "kept" and site.get("clip", key="g").status == 404
    with serving(run) as site:
        assert site.get("moves").status == 404


def test_the_sample_run(sample_run):
    with serving(Storage.at(sample_run)) as site:
        assert site.get("rows").told["total"] == 15 and keys(site, kind="face") == keys(site, q="carphone", verdict="kept")
        told = site.get("clip", key="carphone_pristine_00000").told
        assert "mask" not in told["clip"]["entities"][0]["refs"][0]
        mask = site.get("mask", key="carphone_pristine_00000", entity=0, frame=1)
        pixels = cv2.imdecode(np.frombuffer(mask.body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (144, 192, 4)
        share = next(ref["area"] for ref in told["clip"]["entities"][0]["refs"] if ref["frame"] == 1)
        assert (pixels[..., 3] > 0).mean() == pytest.approx(share, abs=1e-3)
        assert tuple(pixels[72, 70, 2::-1]) == clips.COLOURS[0], "the man is in the middle, in the first colour"
        assert site.get("mask", key="carphone_pristine_00000", entity=9, frame=1).status == 410
        thumb = cv2.imdecode(np.frombuffer(site.get("thumb", key="bikes_00003").body, np.uint8), cv2.IMREAD_COLOR)
        assert max(thumb.shape) == clips.THUMB
        assert site.get("clip", key="bikes_00001").told["stills"] == 3
        stills = [np.frombuffer(site.get("still", key="bikes_00001", number=n).body, np.uint8) for n in range(3)]
        pictures = [cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int) for data in stills]
        assert abs(pictures[0] - pictures[2]).mean() > 5, "the man has walked on"
        assert site.get("still", key="bikes_00007", number=0).status == 200, "beyond the end: the last frame"
        assert site.get("clip", key="parade_00000").told["stills"] == 0
        assert site.get("still", key="parade_00000", number=0).status == 410


@pytest.mark.parametrize("counts", ["~~~~~~~~", "PPYo99999999999", 7])
@pytest.mark.parametrize("size", [[4, 4], [0, 4], [-4, -4], [1 << 20, 1 << 20], "xy"])
def test_a_damaged_mask_is_said(counts, size):
    with pytest.raises(clips.Lost):
        clips.mask({"entities": [{"refs": [{"frame": 0, "mask": {"size": size, "counts": counts}}]}]}, 0, 0)
