"""The viewer's page in a headless Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.look import decisions
from curation.storage import Storage
from tests.look.browser import axe, chromium
from tests.look.serving import Site, serving
from tests.shards import made
from tests.shards.made import rejected, sample

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
CLIP = "carphone_pristine_00000"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may log nothing and raise nothing."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    found, wrong = context.new_page(), []
    found.on("console", lambda message: wrong.append(message.text))
    found.on("pageerror", lambda error: wrong.append(str(error)))
    yield found
    context.close()
    assert wrong == []


def opened(page: Any, site: Site, query: str = "") -> None:
    page.goto(f"{site.url}/{query}")
    page.wait_for_selector("#rows a, #total:text('0 clips')", state="attached")


def until(page: Any, condition: str) -> None:
    """`wait_for_function` needs an eval, which the page's policy forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def keys(page: Any) -> list[str]:
    return page.eval_on_selector_all("#rows a", "links => links.map((link) => link.dataset.key)")


@pytest.fixture
def sample_copy(sample_run: Path, tmp_path: Path) -> Storage:
    """The sample run, of which decisions may be written."""
    for folder in ("shards", "plan"):
        (tmp_path / folder).symlink_to(sample_run / folder)
    (tmp_path / "run.json").write_bytes((sample_run / "run.json").read_bytes())
    return Storage.at(tmp_path)


def test_search_play_toggle_and_decide_by_keyboard(page, sample_copy):
    with serving(sample_copy) as site:
        opened(page, site)
        assert page.text_content("#total") == "15 clips"
        page.keyboard.press("/")
        page.keyboard.type("carphone")
        page.wait_for_selector("#total:text('3 clips')")
        page.select_option("[name=verdict]", "kept")
        page.wait_for_selector("#total:text('2 clips')")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.wait_for_selector(f"#detail h2:text('{CLIP}')")
        assert page.evaluate("document.activeElement.tagName") == "H2"
        until(page, "[...document.querySelectorAll('.layers img')].every((image) => image.naturalWidth === 192)")
        assert page.locator(".layers img[data-mask]:visible").count() == 3
        page.keyboard.press("m")
        assert page.locator(".layers img[data-mask]:visible").count() == 0
        page.check("[data-entity='0']")
        assert page.locator(".layers img[data-mask]:visible").count() == 3
        page.locator("#detail h2").focus()
        page.keyboard.press("p")
        until(page, "document.querySelector('video').currentTime > 0.2")
        page.keyboard.press("x")
        page.wait_for_selector(f"#rows a[data-key={CLIP}] .decided:text('drop')")
        page.keyboard.press("n")
        page.keyboard.type("x is no key here")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.wait_for_selector("#detail h2:text('carphone_pristine_00001')")
        page.keyboard.press("y")
        page.wait_for_selector("#rows a[data-key=carphone_pristine_00001] .decided:text('keep')")
        page.keyboard.press("Escape")
        assert page.locator("#detail").is_hidden()
        until(page, "document.activeElement.dataset.key === 'carphone_pristine_00001'")
        made = decisions.read(sample_copy)
        assert (made[CLIP].decision, made[CLIP].note) == ("drop", "x is no key here")
        assert made["carphone_pristine_00001"].decision == "keep"
        page.reload()
        page.wait_for_selector("#total:text('2 clips')")
        assert page.input_value("[name=q]") == "carphone"


def test_why_a_clip_was_dropped_and_its_source(page, sample_copy):
    with serving(sample_copy) as site:
        opened(page, site, "?key=bikes_00001")
        page.wait_for_selector("#detail h2:text('bikes_00001')")
        assert "split_shots: too_short" in page.text_content("#detail")
        start, end = (site.get("clip", key="bikes_00001").told[name] for name in ("start", "end"))
        until(page, f"Math.abs(document.querySelector('video').currentTime - {start}) < 0.1")
        page.evaluate("document.querySelector('video').playbackRate = 4")
        page.keyboard.press("p")
        until(page, f"document.querySelector('video').paused && document.querySelector('video').currentTime >= {end} - 0.1")
        page.evaluate("document.querySelector('video').dispatchEvent(new Event('error'))")
        until(page, "[...document.querySelectorAll('#detail figure img')].filter((i) => i.naturalWidth > 0).length === 3")


def test_pages_and_two_runs(page, tmp_path):
    names = [f"k{i:03d}" for i in range(70)]
    one = made.run(tmp_path / "one", [[rejected(name) for name in names]])
    other = made.run(
        tmp_path / "other", [[rejected(name, reason="too_long" if name == "k007" else "too_short") for name in names]]
    )
    with serving(one, other) as site:
        opened(page, site)
        page.click("#after")
        page.wait_for_selector("#rows a[data-key=k050]")
        assert keys(page) == names[50:] and page.is_disabled("#after")
        page.click("#rows a[data-key=k050]")
        page.keyboard.press("k")
        page.wait_for_selector("#detail h2:text('k049')")
        page.keyboard.press("Escape")
        page.click("#to-moves")
        page.click("#moves td button")
        page.click("#moved td button")
        page.wait_for_selector("#detail h2:text('k007')")
        page.click("text=The same in the other run")
        page.wait_for_selector("#detail:has-text('too_long')")


def test_a_hostile_caption_runs_nothing(page, tmp_path):
    one = sample("a")
    one.meta["source"]["caption"] = HOSTILE
    one.meta["extract_entities"] = {"entities": [{"word": HOSTILE, "kind": "subject", "span": [0, 9]}]}
    with serving(made.run(tmp_path, [[one]])) as site:
        opened(page, site, "?q=%3Cscript%3E")
        page.click("#rows a")
        page.wait_for_selector("#detail h2")
        assert page.text_content("#detail .caption") == HOSTILE and page.title() == str(tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 375])
def test_axe_finds_nothing(browser, sample_copy, width, scheme):
    """The list, a clip, the keys and the comparison, by axe-core."""
    script = axe()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()

    def found() -> list[str]:
        told = page.evaluate("axe.run({preload: false})")
        assert len(told["passes"]) > 10
        return [f"{one['id']}: {node['html'][:200]}" for one in told["violations"] for node in one["nodes"]]

    other = made.run(sample_copy.local("other"), [[rejected("bikes_00001", reason="too_long")]])
    with serving(sample_copy, other) as site:
        opened(page, site)
        page.evaluate(script)
        page.click("text=More")
        assert found() == []
        page.click(f"#rows a[data-key={CLIP}]")
        page.wait_for_selector("#detail h2")
        page.click("summary:text('Ledger row')")
        assert found() == []
        page.keyboard.press("Escape")
        page.click("#to-moves")
        page.click("#moves td button")
        page.wait_for_selector("#moved table")
        assert found() == []
        page.click("#to-help")
        assert found() == []
    context.close()


@pytest.mark.parametrize("width, scheme", [(1300, "dark"), (375, "light")])
def test_nothing_is_wider_than_the_window(browser, sample_run, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    with serving(Storage.at(sample_run)) as site:
        opened(page, site, f"?key={CLIP}")
        page.wait_for_selector("#detail h2")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
