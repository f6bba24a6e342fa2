"""What this process may use of the machine it runs on."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")


def cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use: those it is bound to, or fewer where its container has a smaller share. At least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, ceil(_quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """CPUs that the control group grants, by its second or its first version."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return 1e6
    return int(quota) / int(period) if quota.isdecimal() else 1e6


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor computes in bfloat16 itself, else that is slow. Without torch: to import it takes seconds."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16"})
