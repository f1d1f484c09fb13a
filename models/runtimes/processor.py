"""The processor: the number of threads to compute with, and whether it multiplies bfloat16 matrices in hardware."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


def count_threads() -> int:
    """Return the number of threads to compute with: ``OMP_NUM_THREADS``, by default one per physical core.

    Only cores count that this process may use. In a container that is limited to a share of the machine's time, there are no
    more threads than that share amounts to: further ones would only make the others wait.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    quota = _read_cpu_quota()
    cores = _count_cores()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def has_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 matrices in hardware, so that they are faster than float32 ones.

    OpenVINO also computes in bfloat16 on processors that emulate it, which is slower than float32. Known on Linux only.
    """
    return not {"avx512_bf16", "amx_tile"}.isdisjoint(_read_processor_flags())


def _count_cores() -> int:
    """Count the physical cores that this process may use; their hardware threads count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = set()
    for number in allowed:
        try:
            cores.add((_CPUS / f"cpu{number}/topology/thread_siblings_list").read_text())
        except OSError:
            return len(allowed)
    return len(cores)


def _read_cpu_quota() -> float | None:
    """Return the number of cores' worth of time that the control group of this process has; ``None`` without a limit."""
    try:  # version 2
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1
            quota, period = ((_CGROUP / f"cpu/cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max" or -1
    return int(quota) / int(period)


def _read_processor_flags() -> set[str]:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
