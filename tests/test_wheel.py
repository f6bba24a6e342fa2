"""What a user installs without a checkout: the wheel, in a fresh environment, runs a recipe by its name."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv

import pytest

from tests import videos
from tests.conftest import ROOT


@pytest.mark.slow
def test_a_wheel_brings_its_recipes(tmp_path):
    quiet = ("-q", "--disable-pip-version-check", "--no-deps")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *quiet, "-w", tmp_path, ROOT], check=True)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    site = next((tmp_path / "venv").rglob("site-packages"))
    (wheel,) = tmp_path.glob("curation-*.whl")
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", site, wheel], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # of this environment, but for its own curation
    (tmp_path / "in").mkdir()
    videos.write([videos.picture(n) for n in range(40)], tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "a.txt").write_text("A man talks.")
    command = [tmp_path / "venv" / "bin" / "python", "-m", "curation.cli", "run", "embedded", "--local"]
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "planned 1 = kept 0 + rejected 1" in done.stdout, done.stdout + done.stderr
