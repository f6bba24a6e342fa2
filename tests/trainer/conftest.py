from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def small_tensors(one_thread: None) -> None:
    """In every module here."""
