"""A blind preference study: who sees what, what a rater's browser saves, and what it adds up to."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.benchmark import study, votes
from curation.benchmark.errors import BenchmarkError
from tests.benchmark import made
from tests.look.browser import axe, chromium

HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'
METHODS = {"ours": made.RED, "theirs": made.GREEN, "image": made.BLUE}


def world(folder: Path, clips: int = 4, prompt: str = "A man with a hat walks.") -> Path:
    """A benchmark, and three methods' results: two of videos, one of pictures."""
    for number in range(clips):
        made.clip(folder / "benchmark", f"clip{number}", prompt=f"{prompt} {number}")
        for name, colour in METHODS.items():
            if name == "image":
                (folder / name).mkdir(exist_ok=True)
                made.png(folder / name / f"clip{number}.png", colour, alpha=False)
            else:
                made.video(folder / name / f"clip{number}.mp4", colour)
    return folder


def asked(folder: Path, **knobs: Any) -> str:
    plain = {"output": folder / "page/study.html", "key": folder / "key.json"}
    return study.make([str(folder / name) for name in METHODS], folder / "benchmark", **(plain | knobs))


def test_the_page_tells_nobody_whose_is_whose(tmp_path):
    said = asked(world(tmp_path), references="all", background=True)
    assert "4 clips, 3 methods" in said
    told = json.loads((tmp_path / "key.json").read_text())
    text = (tmp_path / "page/study.html").read_text()
    names = sorted(path.name for path in (tmp_path / "page").rglob("*") if path.is_file())
    assert len(names) == 1 + 4 * (3 + 3 + 1), "videos, references, backgrounds"
    for name in ("ours", "theirs", "clip0", str(tmp_path)):
        assert name not in text and not any(name in file for file in names)
    assert all(re.fullmatch(r"[0-9a-f]{16}\.(mp4|png|jpg)", name) for name in names if name != "study.html")
    for sample in told["samples"].values():
        for file, method in sample["files"].items():
            source = tmp_path / method / f"{sample['key']}{Path(file).suffix}"
            assert (tmp_path / "page" / file).read_bytes() == source.read_bytes()


def test_the_seed_decides_clips_order_and_sides(tmp_path):
    world(tmp_path, clips=12)
    made_of = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        asked(tmp_path, output=tmp_path / name / "study.html", key=tmp_path / f"{name}.json", samples=8, seed=seed)
        made_of[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert made_of["a"] == made_of["b"]
    assert (tmp_path / "a/study.html").read_bytes() == (tmp_path / "b/study.html").read_bytes()
    assert made_of["a"]["study"] != made_of["c"]["study"]
    assert len(made_of["a"]["samples"]) == 8
    lefts = Counter(next(iter(sample["files"].values())) for sample in made_of["a"]["samples"].values())
    assert len(lefts) == 3, "no method stands always on the left"
    keys = [sample["key"] for sample in made_of["a"]["samples"].values()]
    assert keys != sorted(keys) and len(set(keys)) == 8


def test_clips_that_not_all_have_made_are_left_out_and_told_of(tmp_path):
    world(tmp_path)
    (tmp_path / "ours/clip2.mp4").unlink()
    assert "3 clips, 3 methods, 1 clips are not in all of them" in asked(tmp_path)
    assert "clip2" not in {sample["key"] for sample in json.loads((tmp_path / "key.json").read_text())["samples"].values()}


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"output": "page/study.txt"}, "ends in .html"),
        ({"key": "page/key.json"}, "must lie outside of it"),
        ({"key": "page/under/key.json"}, "must lie outside of it"),
        ({"key": "there.json"}, "is there already"),
    ],
)
def test_where_it_may_not_be_written(tmp_path, knobs, said):
    world(tmp_path, clips=1)
    (tmp_path / "there.json").write_text("{}")
    with pytest.raises(BenchmarkError, match=said) as caught:
        asked(tmp_path, **{name: tmp_path / value for name, value in knobs.items()})
    assert "\n" not in str(caught.value) and not (tmp_path / "page").exists()


def test_methods_are_two_folders_or_more_of_different_names(tmp_path):
    world(tmp_path, clips=1)
    (tmp_path / "other/ours").mkdir(parents=True)
    assert list(study.named([str(tmp_path / "ours"), f"b={tmp_path / 'theirs'}"])) == ["ours", "b"]
    for methods, said in [
        (["ours"], "two methods or more"),
        (["ours", "other/ours"], "two methods are called 'ours'"),
        (["ours", "nowhere"], "give folders of videos"),
        (["ours", f"tie={tmp_path / 'theirs'}"], "give folders of videos"),
    ]:
        with pytest.raises(BenchmarkError, match=said):
            study.named([text if "=" in text else str(tmp_path / text) for text in methods])
    (tmp_path / "theirs/clip0.mp4").rename(tmp_path / "theirs/clip0.avi")
    with pytest.raises(BenchmarkError, match="browsers do not play clip0.avi"):
        asked(tmp_path)


# What the votes add up to.


def cast(choices: dict[str, list[str]]) -> dict[votes.Vote, str]:
    """Of each sample what its raters chose, in both questions."""
    return {
        (f"rater{n}", sample, question): choice
        for sample, chosen in choices.items()
        for n, choice in enumerate(chosen)
        for question in study.QUESTIONS
    }


def test_percentages_by_hand():
    """Six votes on two clips: three for a, one for b, two ties that are shared out."""
    found = votes.tally(cast({"000": ["a", "a", "tie"], "001": ["a", "b", "tie"]}), ["a", "b"])
    shares = {share.method: share for share in found.shares if share.question == "quality"}
    assert shares["a"].percent == pytest.approx(100 * 4 / 6) and shares["b"].percent == pytest.approx(100 * 2 / 6)
    assert found.ties["quality"] == pytest.approx(100 / 3) and found.votes == {"fidelity": 6, "quality": 6}
    assert (found.raters, found.samples) == (3, 2)
    assert shares["a"].low == pytest.approx(50) and shares["a"].high == pytest.approx(100 * 2.5 / 3), (
        "one clip twice, or the other"
    )


def test_intervals_are_over_clips_not_over_votes():
    """Five raters who agree on each clip tell no more of another clip than one does."""
    once = votes.tally(cast({f"{n:03d}": ["a" if n % 4 else "b"] for n in range(60)}), ["a", "b"])
    five = votes.tally(cast({f"{n:03d}": 5 * ["a" if n % 4 else "b"] for n in range(60)}), ["a", "b"])
    assert once.shares == five.shares
    (share, *_) = once.shares
    assert share.percent == pytest.approx(75) and 8 < 75 - share.low < 14 and 8 < share.high - 75 < 14  # ±1.96·√(.75·.25/60) = 11


def test_the_papers_four_methods_are_told_in_a_table():
    """V2's own percentages of quality in subject mode (PAPER.md §6), from 1,000 votes that come to them."""
    counts = {"ELITE": 27, "VideoBooth": 3, "DreamVideo": 5, "Video Alchemist": 965}
    flat = [name for name, count in counts.items() for _ in range(count)]
    found = votes.tally(cast({f"{n:03d}": flat[n::200] for n in range(200)}), list(counts))
    lines = votes.table(found).splitlines()
    assert lines[0].startswith("5 raters, 200 clips")
    assert [re.split(r" {2,}", line)[0] for line in lines[2:]] == [*counts, "ties"]
    assert re.search(r"ELITE +2\.7 \[.*\] +2\.7", lines[2]) and "96.5 [" in lines[5] and "0.0 of 1000" in lines[6]


def saved(folder: Path, told: dict[str, Any], rows: list[list[str]], name: str = "votes.csv") -> Path:
    with (folder / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([votes.HEADER, *([told["study"], *row] for row in rows)])
    return folder / name


def test_files_of_votes_are_read_by_the_key(tmp_path):
    asked(world(tmp_path, clips=2))
    told = json.loads((tmp_path / "key.json").read_text())
    file = {(sample, method): file for sample, one in told["samples"].items() for file, method in one["files"].items()}
    first = saved(tmp_path, told, [["Ann", "000", "quality", file["000", "image"]], ["Ann", "001", "quality", "tie"]])
    second = saved(
        tmp_path, told, [["Bo", "000", "quality", file["000", "ours"]], ["Ann", "000", "quality", file["000", "ours"]]], "b.csv"
    )
    found = votes.count([first, second], tmp_path / "key.json")
    assert found.votes == {"quality": 3} and found.raters == 2, "Ann has changed her mind"
    assert {s.method: round(s.percent, 1) for s in found.shares} == {"ours": 77.8, "theirs": 11.1, "image": 11.1}
    for rows, said in [
        ([["Ann", "000", "beauty", "tie"]], "votes.csv:2: no such vote"),
        ([["Ann", "000", "quality", "tie"], ["Ann", "007", "quality", "x.mp4"]], "votes.csv:3: no such vote"),
        ([["Ann"]], "votes.csv:2: of the study ''"),
        ([], "no vote in it"),
    ]:
        with pytest.raises(BenchmarkError, match=said):
            votes.count([saved(tmp_path, told, rows)], tmp_path / "key.json")
    with pytest.raises(BenchmarkError, match="of the study 'other'; the key is of"):
        votes.count([saved(tmp_path, {"study": "other"}, [["Ann", "000", "quality", "tie"]])], tmp_path / "key.json")
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(BenchmarkError, match="its columns are not study, rater"):
        votes.count([tmp_path / "x.csv"], tmp_path / "key.json")
    with pytest.raises(BenchmarkError, match="not written by"):
        votes.count([first], first)


# What a rater's browser makes of the page, from the disk.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = world(tmp_path_factory.mktemp("study"), clips=3, prompt=HOSTILE)
    asked(folder, references="all", background=True)
    return folder


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The page open; it may log nothing and raise nothing."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, accept_downloads=True)
    found, wrong = context.new_page(), []
    found.on("console", lambda message: wrong.append(message.text))
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.goto((site / "page/study.html").as_uri())
    yield found
    context.close()
    assert wrong == []


def until(page: Any, condition: str) -> None:
    """`wait_for_function` needs an eval, which the page's policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def downloaded(page: Any) -> Path:
    with page.expect_download() as coming:
        page.click("#save")
    return Path(coming.value.path())


def test_a_rater_votes_by_keyboard_and_saves(page, site, tmp_path):
    until(page, "[...document.querySelectorAll('video')].every((video) => video.readyState >= 2)")
    until(page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.locator("#videos figure").count() == 3 and page.locator("#pictures figure").count() == 4
    page.click("#save")
    assert "Write your name" in page.text_content("#said") and page.evaluate("document.activeElement.id") == "rater"
    page.keyboard.type('Ann "A", 12')
    page.locator("#sample").focus()
    page.keyboard.press("1")
    page.keyboard.press("0")
    assert page.text_content("#progress") == "1 of 3 clips done"
    page.keyboard.press("j")
    assert page.text_content("#sample") == "Clip 2 of 3"
    page.keyboard.press("3")
    page.keyboard.press("2")
    page.click("#open")
    assert page.text_content("#sample") == "Clip 3 of 3" and page.is_disabled("#after")
    page.check("fieldset[data-question=quality] input >> nth=0")
    page.keyboard.press("k")
    assert page.text_content("#sample") == "Clip 2 of 3"
    assert page.is_checked("fieldset[data-question=fidelity] input >> nth=2")
    told = json.loads((site / "key.json").read_text())
    seen = {sample: list(one["files"].values()) for sample, one in told["samples"].items()}
    found = votes.read(downloaded(page), told)
    assert found == {
        ('Ann "A", 12', "000", "fidelity"): seen["000"][0],
        ('Ann "A", 12', "000", "quality"): "tie",
        ('Ann "A", 12', "001", "fidelity"): seen["001"][2],
        ('Ann "A", 12', "001", "quality"): seen["001"][1],
        ('Ann "A", 12', "002", "quality"): seen["002"][0],
    }
    page.reload()
    assert page.text_content("#sample") == "Clip 3 of 3", "it goes on where a vote is missing"
    assert page.input_value("#rater") == 'Ann "A", 12' and page.text_content("#progress") == "2 of 3 clips done"


def test_a_hostile_prompt_runs_nothing(page):
    assert page.title() == "Which is better?" and HOSTILE in page.text_content("#prompt")
    assert page.locator("#prompt *").count() == 0


def test_its_policy_lets_nothing_in_or_out(browser, site):
    context = browser.new_context()
    found = context.new_page()
    found.goto((site / "page/study.html").as_uri())
    for code in (
        "fetch('https://example.org/').then(() => true, () => false)",
        "new Promise((done) => {const image = new Image(); image.onload = () => done(true); image.onerror = () => done(false);"
        " image.src = 'https://example.org/a.png'})",
        "(() => {const one = document.createElement('script'); one.textContent = 'window.ran = 1'; document.body.append(one);"
        " return !!window.ran})()",
    ):
        assert found.evaluate(code) is False
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 375])
def test_axe_finds_nothing_and_nothing_is_too_wide(browser, site, width, scheme):
    script = axe()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = context.new_page()
    found.goto((site / "page/study.html").as_uri())
    found.evaluate(script)
    found.click("summary")
    found.click("#save")
    told = found.evaluate("axe.run({preload: false})")
    assert len(told["passes"]) > 10
    assert [f"{one['id']}: {node['html'][:200]}" for one in told["violations"] for node in one["nodes"]] == []
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
