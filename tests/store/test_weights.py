from __future__ import annotations

from pathlib import Path

import pytest

from curation.store.weights import weights_digest


def test_weights_have_an_identity(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/model").write_bytes(b"0" * 5_000_000)
    first = weights_digest(tmp_path / "a")
    (tmp_path / "a/.verified").write_text("not part of it")
    (tmp_path / "a").rename(tmp_path / "b")
    assert weights_digest(tmp_path / "b") == first
    (tmp_path / "b/model").write_bytes(b"0" * 4_999_999 + b"1")
    assert weights_digest(tmp_path / "b") != first


def test_a_file_is_a_checkpoint_too(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"0"), ("b.pt", b"0"), ("c.pt", b"1")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (weights_digest(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt"))
    assert a == b != c
    with pytest.raises(FileNotFoundError, match="no weights at .*gone.pt"):
        weights_digest(str(tmp_path / "gone.pt"))
