"""With what something was computed: versions of the packages and the hardware, without the machine's name."""

import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "nnunet-diffusion-ensemble"
GIB = 2**30


def versions_and_hardware() -> dict[str, Any]:
    """Of this process, for a record in JSON."""
    return {"python": platform.python_version(), "packages": package_versions(), **hardware()}


def requirements() -> list[Requirement]:
    """What this package needs here, extras apart."""
    wanted = [Requirement(text) for text in requires(PACKAGE) or ()]
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def package_versions() -> dict[str, str]:
    """Of this package, and of those that it needs as far as they are installed."""
    found = {PACKAGE: version(PACKAGE)}
    for requirement in requirements():
        try:
            found[requirement.name] = version(requirement.name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """System, processor, memory and GPUs that this process can use."""
    import torch

    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "gpus": [{"name": one.name, "memory_gib": round(one.total_memory / GIB, 1)} for one in properties],
        "cuda": torch.version.cuda,
    }


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    """As the maker calls it, where the system tells (Linux), or its architecture."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Of the machine; None where the system does not tell (Windows)."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)
