from __future__ import annotations

import os

import pytest

from curation.machine import cpus, has_bf16

BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, BOUND),
        ({"cpu.max": "max 100000\n"}, BOUND),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, min(BOUND, 2)),
        ({"cpu.max": "6400000 100000\n"}, BOUND),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, BOUND),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_containers_share_counts(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpus(tmp_path) == expected


@pytest.mark.parametrize(
    "words, expected", [("avx2 avx512f", False), ("avx2 avx512_bf16", True), ("amx_bf16", True), ("", False)]
)
def test_bfloat16_is_seen_without_torch(tmp_path, words, expected):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {words}\n")
    assert has_bf16(tmp_path / "cpuinfo") is expected
    assert not has_bf16(tmp_path / "none")


def test_and_is_what_torch_sees():
    from curation.models import transnetv2

    assert has_bf16() == (transnetv2.fast_on_cpu() == "bf16")
