from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from curation.models.pickled import WrongWeights, weights_of


class Mine(nn.Module):
    """A class that a reader of the file need not have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.SiLU())
        self.names = {0: "face"}
        self.stride = torch.tensor([8.0])
        self.shortcut = None


class Bomb:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return shutil.copy, (__file__, str(self.file))


def test_weights_come_out_without_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Mine()
    network.inner[1].running_mean.fill_(3)
    expected = {name: tensor.clone() for name, tensor in network.half().state_dict().items()}
    torch.save({"ema": None, "model": network, "opt": Mine}, tmp_path / "x.pt")
    monkeypatch.delattr(f"{__name__}.Mine")
    found = weights_of(tmp_path / "x.pt", "ema", "model")
    assert found.keys() == expected.keys()
    assert all(
        torch.equal(found[name], tensor.float() if tensor.is_floating_point() else tensor) for name, tensor in expected.items()
    )
    assert found["inner.0.weight"].dtype == torch.float32


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    network = Mine()
    network.bomb = Bomb(tmp_path / "exploded")  # type: ignore[assignment]
    torch.save({"model": network}, tmp_path / "x.pt")
    assert "inner.0.weight" in weights_of(tmp_path / "x.pt", "model")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [{"model": None}, {"other": Mine()}, [1, 2], {"model": 7}])
def test_a_file_without_a_network_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WrongWeights, match=r"x.pt holds no network as ema or model"):
        weights_of(tmp_path / "x.pt", "ema", "model")
    (tmp_path / "y.pt").write_bytes(b"no checkpoint")
    with pytest.raises(WrongWeights):
        weights_of(tmp_path / "y.pt", "model")
