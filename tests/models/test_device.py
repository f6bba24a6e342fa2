from __future__ import annotations

import pytest
import torch

from curation.models.device import pick


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_for_whom_a_share_of_one_is_meant(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick(0.0) == "cpu" and pick(0.05) == pick(1.0) == ("cuda" if there else "cpu")
