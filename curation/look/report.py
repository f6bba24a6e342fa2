"""`curation report`: a run as one page that needs no network, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from curation import console, ledger
from curation.inputs.files import InputError
from curation.inputs.rows import STAGE as INPUTS
from curation.look import ledgers, pictures
from curation.look.bounds import bounds
from curation.look.gather import NEEDED, Gathered
from curation.look.pages import templates
from curation.shards import sessions
from curation.shards import tally as tallies
from curation.shards.planned import info_of
from curation.shards.tally import Tally
from curation.storage import Storage
from curation.store import store

HTML, JSON = "report.html", "report.json"
CLOUD = 60
"""Words of each kind in the word cloud."""


def write(out: str, price_per_hour: float | None = None, with_pictures: bool = True) -> str:
    """Write both beside the run's other files; gives the page's path. Raises `InputError` when nothing is finished there."""
    storage = Storage.at(out)
    facts = report(storage, price_per_hour)
    shown = pictures.samples(storage, ledger.files(storage)) if with_pictures else []
    html = page(facts, shown)
    storage.write(JSON, json.dumps(facts, indent=1, ensure_ascii=False))
    storage.write(HTML, html)
    return storage.path(HTML)


def write_at_end(storage: Storage) -> None:
    """The same for a run that ends: whatever goes wrong here is said, and is no fault of the run."""
    try:
        console.say(f"report: {write(storage.root)}")
    except Exception as error:  # noqa: BLE001
        console.say(f"curation: no report: {type(error).__name__}: {error}")


def report(storage: Storage, price_per_hour: float | None = None) -> dict[str, Any]:
    """What report.json holds."""
    names = ledger.files(storage)
    if not names:
        raise InputError(f"{storage.path()}: no finished shard here; give a run's output folder")
    made = json.loads(storage.read("run.json")) if storage.exists("run.json") else {}
    recipe, plan = made.get("recipe", {}), info_of(storage) or {}
    total = tallies.tally(storage)
    gathered = Gathered(bounds(recipe))
    for table in ledgers.tables(storage, names, NEEDED):
        gathered.add(table)
    planned = plan.get("clips", total.planned)
    return {
        "run": storage.path(),
        "clips": {
            "planned": planned,
            "kept": total.kept,
            "rejected": total.rejected,
            "failed": total.failed,
            "not_done": max(0, planned - total.planned),
        },
        "samples": total.samples,
        "bytes": total.bytes,
        "video_seconds": round(total.video_seconds, 2),
        "funnel": _funnel(total, recipe),
        **gathered.as_dict(),
        "time": _time(total, max(0, planned - total.planned), price_per_hour) | _wall(storage, max(0, planned - total.planned)),
        "provenance": provenance(recipe, plan.get("made_from", {})),
    }


def _funnel(total: Tally, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages in the recipe's order (one that stands in it twice, by its second place), each with how many clips and shots came to
    it, went on, and why the others did not."""
    order = list(dict.fromkeys(reversed([INPUTS, *(recipe.get("plan") or ()), *(recipe.get("clips") or ())])))[::-1]
    order += sorted({stage for _, stage, _ in total.reasons} - set(order))
    left = total.samples + sum(total.reasons.values())
    steps = []
    for stage in order:
        why = [(count, v, r) for (v, s, r), count in total.reasons.items() if s == stage]
        reasons = [{"reason": r, "verdict": v, "count": n} for n, v, r in sorted(why, key=lambda w: (-w[0], w[1:]))]
        came, left = left, left - sum(count for count, _, _ in why)
        steps.append({"stage": stage, "came": came, "went_on": left, "reasons": reasons})
    return steps


def _time(total: Tally, rest: int, price_per_hour: float | None) -> dict[str, Any]:
    """Seconds of workers by stage; how many clips one worker does in a second, and what the rest would take."""
    stages = {name: round(seconds, 2) for name, seconds in total.stage_seconds.most_common()}
    spent = sum(total.stage_seconds.values())
    each = spent / total.planned if total.planned else 0.0
    hours = rest * each / 3600
    return {
        "stages": stages,
        "bottleneck": next(iter(stages), None),
        "worker_seconds": round(spent, 2),
        "seconds_per_clip": round(each, 4),
        "clips_per_worker_second": round(1 / each, 4) if each else None,
        "seconds_per_kept": round(spent / total.samples, 4) if total.samples else None,
        "rest": {"clips": rest, "worker_hours": round(hours, 3)},
        "price_per_hour": price_per_hour,
        "price": None if price_per_hour is None else round(spent / 3600 * price_per_hour, 4),
        "price_of_the_rest": None if price_per_hour is None else round(hours * price_per_hour, 4),
    }


def _wall(storage: Storage, rest: int) -> dict[str, Any]:
    """Seconds of the wall's clock over all times that the run was gone on with, clips per second of them, and hours for the rest
    at that pace; null of a run of before they were noted."""
    found = sessions.read(storage)
    seconds, clips = sum(session.seconds for session in found), sum(session.clips for session in found)
    pace = clips / seconds if seconds else 0.0
    return {
        "sessions": len(found),
        "wall_seconds": round(seconds, 2) if found else None,
        "clips_per_second": round(pace, 4) if pace else None,
        "wall_hours_of_the_rest": round(rest / pace / 3600, 3) if pace else None,
    }


def provenance(recipe: Mapping[str, Any], made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What made a run: version, input, models with licences, libraries."""
    models = [
        {"name": name, "sha256": digest, "licence": _licence(name, recipe)}
        for name, digest in sorted({**(made_from.get("models") or {}), **(recipe.get("models") or {})}.items())
    ]
    libraries = recipe.get("libraries", {})
    return {"version": recipe.get("version"), "input": made_from.get("input"), "models": models, "libraries": libraries}


def _licence(name: str, recipe: Mapping[str, Any]) -> str:
    if name in store.names():
        return store.entry(name).licence
    stage, _, knob = name.partition(".")
    is_given = any(((recipe.get(head) or {}).get(stage) or {}).get(knob) for head in ("plan", "clips"))
    return "the user's own" if is_given or not knob else "comes with curation"


def page(facts: Mapping[str, Any], shown: list[dict[str, Any]]) -> str:
    """The page. All that comes from strangers is escaped; it asks nothing of a network, and a policy says so."""
    environment = templates("curation.look")
    environment.filters["n"] = _number
    words = [(word, count, kind) for kind, found in facts["words"].items() for word, count in found[:CLOUD]]
    cloud = sorted(words, key=lambda entry: (entry[0].casefold(), entry[2]))
    return environment.get_template("report.html.j2").render(**facts, pictures=shown, cloud=cloud)


def _number(value: float | None) -> str:
    """1,234 or 0.123, as people read it."""
    if value is None:
        return "–"
    if isinstance(value, int) or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
