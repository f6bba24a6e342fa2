"""What several metrics of a profile need of one video is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Truth

T = TypeVar("T")


class Once(Generic[T]):
    """A function that remembers its last answer, and gives it again for the same objects (not for equal ones)."""

    def __init__(self, function: Callable[..., T]):
        self._function = function
        self._asked: tuple[Any, ...] = ()
        self._answer: list[T] = []

    def __call__(self, *asked: Any) -> T:
        if not (self._answer and len(asked) == len(self._asked) and all(a is b for a, b in zip(asked, self._asked, strict=True))):
            self._asked, self._answer = asked, [self._function(*asked)]
        return self._answer[0]


class OneColumn:
    """A metric of one column; `models` are names of the store. It needs nothing of the truth unless it says so."""

    def __init__(self, models: tuple[str, ...], column: str):
        self.models = models
        self.columns: tuple[str, ...] = (column,)

    def truth(self, case: Case) -> Truth:
        return {}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, D] and [M, D] → [N, M], in float64; of a zero vector 0."""
    a, b = (x.astype(np.float64) for x in (a, b))
    a, b = (x / np.where(length > 0, length, 1) for x in (a, b) for length in [np.linalg.norm(x, axis=1, keepdims=True)])
    return a @ b.T
