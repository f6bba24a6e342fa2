from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.paper
pytest.importorskip("torchvision", reason="needs the paper extra")

import torch  # noqa: E402

from curation.models.raft import Raft, WrongWeights, filled  # noqa: E402
from tests.tiny import protocol as tiny  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return tiny.raft(tmp_path_factory.mktemp("raft") / "weights") / "raft-things.pth"


def test_the_authors_weights_and_torchvisions_are_one_network(checkpoint: Path, tmp_path: Path) -> None:
    """Twenty iterations, frames from -1 to 1, in the frame's own pixels."""
    network = Raft(checkpoint)
    torch.save(network._network.state_dict(), tmp_path / "torchvision.pth")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 131, 128, 3), dtype=np.uint8)
    flow = network(a, b)
    assert flow.shape == (136, 128, 2) and (flow == Raft(tmp_path / "torchvision.pth")(a, b)).all()
    x, y = (filled(torch.from_numpy(f).permute(2, 0, 1)[None].float()) for f in (a, b))
    with torch.no_grad():
        expected = network._network(x / 127.5 - 1, y / 127.5 - 1, num_flow_updates=20)[-1]
    assert flow == pytest.approx(expected[0].permute(1, 2, 0).numpy(), abs=1e-3)
    assert abs(network(b, a) - flow).max() > 1e-3


def test_sides_are_filled_up_with_the_border_an_odd_pixel_at_the_end() -> None:
    frame = torch.arange(3 * 13 * 10).reshape(1, 3, 13, 10).float()
    full = filled(frame)
    assert full.shape == (1, 3, 16, 16)
    assert (full[:, :, 1:14, 3:13] == frame).all()
    assert (full[:, :, 0, 3:13] == frame[:, :, 0]).all() and (full[:, :, 15, 3:13] == frame[:, :, -1]).all()
    assert (full[:, :, 1:14, 0] == frame[..., 0]).all()


def test_what_is_smaller_than_the_network_takes_is_shown_amid_more_of_its_border(checkpoint: Path) -> None:
    network, frames = Raft(checkpoint), np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    around = np.pad(frames, ((0, 0), (32, 32), (16, 16), (0, 0)), mode="edge")
    flow = network(*frames)
    assert flow.shape == (64, 96, 2) and flow == pytest.approx(network(*around)[32:96, 16:112], abs=1e-4)


def test_another_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)
    del weights["module.fnet.conv2.weight"]
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(WrongWeights, match="x.pth is no RAFT"):
        Raft(tmp_path / "x.pth")
