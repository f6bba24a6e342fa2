"""Frozen networks of others: how they are loaded, how they run."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

UNUSED = ("pooler.", "logit_scale", "visual_projection.", "text_projection.")
"""Parts of a network that are never asked for, so a checkpoint may lack them."""


class WrongWeights(ValueError):
    """One line: what a folder of weights is, and what was wanted."""


def loaded(cls: Any, folder: Path, device: str | torch.device, dtype: torch.dtype, **knobs: Any) -> Any:
    """`cls.from_pretrained`, from the folder alone; in evaluation, without gradients.

    Raises `WrongWeights` when the folder holds another network: the libraries only warn, and draw what is missing at random.
    """
    expected = getattr(getattr(cls, "config_class", None), "model_type", None)
    try:
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = stated.get("model_type", expected)
        if "_class_name" in stated and stated["_class_name"] != cls.__name__:
            raise WrongWeights(f"{folder} holds a {stated['_class_name']}, not a {cls.__name__}")
        if expected and kind not in (expected, _whole(expected)):
            raise WrongWeights(f"{folder} holds a {kind!r} network, not a {expected!r}")
        with _quiet(cls.__module__.partition(".")[0]):
            network, found = cls.from_pretrained(folder, local_files_only=True, dtype=dtype, output_loading_info=True, **knobs)
    except (OSError, ValueError, RuntimeError) as error:
        raise WrongWeights(f"{folder} cannot be loaded as {cls.__name__}: {' '.join(str(error).split())[:300]}") from error
    if missing := sorted(key for key in found["missing_keys"] if not key.startswith(UNUSED)):
        raise WrongWeights(f"{folder} lacks {len(missing)} weights of {cls.__name__}, {missing[0]} among them")
    return network.eval().requires_grad_(False).to(device)


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Without the progress bar and the report of what a checkpoint holds besides; what it lacks is an error here."""
    logging = importlib.import_module(f"{library}.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _whole(part: str) -> str:
    """The kind of a checkpoint that holds a part of that kind: CLIP's text and image networks are saved as one."""
    return part.removesuffix("_text_model").removesuffix("_vision_model")


@contextmanager
def frozen(device: torch.device) -> Iterator[None]:
    """No gradients, and no autocast: the network's own dtype decides, so that a cache may trust its name."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield
