"""The metadata of an entity and of its references, as `segment_entities` writes them."""

from __future__ import annotations

from typing import Any


def is_person(entity: dict[str, Any], ref: dict[str, Any]) -> bool:
    """Whether a reference of an entity, as they stand in the metadata, shows a human."""
    return bool(entity.get("person", ref["label"] == "person"))


def nothing() -> dict[str, Any]:
    """Of an entity that nobody looked for."""
    return {"label": None, "rivals": 0, "refs": [], "misses": [], "reason": None}


def dismiss(result: dict[str, Any], reason: str) -> None:
    """Turn an entity's refs into misses."""
    misses = [{k: v for k, v in ref.items() if k != "mask"} | {"reason": reason} for ref in result["refs"]]
    result["misses"] = sorted(result["misses"] + misses, key=lambda miss: miss["frame"])
    result["refs"] = []


def reason(result: dict[str, Any]) -> str | None:
    """Why an entity has no ref: not found at all, else the fault of its best box."""
    if result["refs"]:
        return None
    faults = [miss for miss in result["misses"] if miss["reason"] != "no_box"]
    return max(faults, key=lambda miss: miss["score"])["reason"] if faults else "not_localised"


def scored(value: float | None) -> float | None:
    """A score as it stands there."""
    return None if value is None else round(float(value), 4)
