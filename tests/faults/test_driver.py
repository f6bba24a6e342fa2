"""The driver is killed, told to end, started twice; power is lost between two writes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Ground
from tests.runs import rows

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    "fault, options",
    [("driver_killed", []), ("driver_killed_local", ["--local"])],
    ids=["ray", "local"],
)
def test_killed(ground: Ground, fault: str, options: list[str]) -> None:
    killed = ground.begin(*options)
    ground.wait(killed)
    killed.kill()
    killed.wait()
    assert ground.orphans() == [] and len(rows(ground.out)) < 12
    done = ground.run(*options)
    assert done.returncode == 0 and "planned 12 = kept 12" in done.stdout, done.stderr
    ground.judge(fault)


@pytest.mark.parametrize(
    "fault, options, number",
    [
        ("driver_sigterm", [], signal.SIGTERM),
        ("driver_sigterm", ["--local"], signal.SIGTERM),
        ("driver_sigint", [], signal.SIGINT),
        ("driver_sigint_local", ["--local"], signal.SIGINT),
    ],
    ids=["sigterm", "sigterm local", "ctrl-c", "ctrl-c local"],
)
def test_told_to_end(ground: Ground, fault: str, options: list[str], number: signal.Signals) -> None:
    """As a terminal does it: the signal goes to all processes of the session."""
    with (ground.folder / "said").open("w+") as said:
        told = ground.begin(*options, said=said)
        ground.wait(told)
        begun = time.monotonic()
        if number == signal.SIGINT:
            subprocess.run(["pkill", "-INT", "-s", str(told.pid)], check=True)
        else:
            told.send_signal(number)
        status = told.wait(60)
        took = time.monotonic() - begun
        said.seek(0)
        text = said.read()
    assert status == 128 + number and took < 30, (status, took, text)
    last = text.splitlines()[-1]
    assert last.startswith(f"curation: stopped by {number.name}; run: ") and last.endswith("; the same command goes on"), text
    assert "Traceback" not in text and ground.orphans() == [] and len(rows(ground.out)) < 12
    done = ground.run(*options)
    assert done.returncode == 0, done.stderr
    ground.judge(fault)


def test_told_to_end_while_it_plans(ground: Ground, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(f'{{"path": "v{i}.mp4", "caption": "A man talks."}}\n' for i in range(400_000)))
    with (tmp_path / "said").open("w+") as said:
        told = ground.begin("--local", said=said, source=many)
        while not ground.out.exists():  # it is its own from then on
            assert told.poll() is None
            time.sleep(0.01)
        time.sleep(0.5)
        assert not (ground.out / "run.json").exists(), "it is planning"
        told.send_signal(signal.SIGTERM)
        status = told.wait(30)
        said.seek(0)
        text = said.read()
    assert status == 143 and "Traceback" not in text, text
    assert text.splitlines()[-1].startswith("curation: stopped by SIGTERM"), text


def test_a_second_run_is_refused_and_disturbs_nothing(ground: Ground) -> None:
    first = ground.begin("--local", **ground.orders(**{ground.key(7): "wait"}))
    ground.wait(first)
    second = ground.run("--local")
    ground.go.touch()
    assert second.returncode == 2 and second.stderr == f"curation: another run is at work in {ground.out}\n"
    assert first.wait(120) == 0
    ground.judge("second_run")
