"""The machine and the environment: versions, nnU-Net's variables, registration, device, processes, memory, disk."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from nnunet_diffusion_ensemble.doctor.finding import NOTE, OK, PROBLEM, Finding
from nnunet_diffusion_ensemble.nnunet.datasets import VARIABLES
from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER, EXTERNAL_VARIABLE, external_folders, shim_states

PACKAGE = "nnunet-diffusion-ensemble"
TESTED_NNUNET = ("2.8.1",)
SHOWN = ("torch", "nnunetv2", "monai")
GIB = 2**30
FEW_GIB_OF_DISK, FEW_GIB_ON_GPU = 10, 8  # the latter is nnU-Net's memory target
DOCKERS_SHARED_MEMORY = 64 * 2**20  # bytes, unless it is asked for more
ENOUGH_SHARED_MEMORY = GIB


def look_at_machine(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """All of it, in the order in which it is needed."""
    yield from versions()
    for name in VARIABLES:
        yield variable(name, environment)
    yield registration(environment)
    yield device()
    yield from processes(environment)
    yield shared_memory()
    yield from disks(environment)


# ---- what is installed


def versions() -> Iterator[Finding]:
    """Python, and our dependencies against what we ask for."""
    yield Finding("Python", OK, platform.python_version())
    wanted = [Requirement(text) for text in requires(PACKAGE) or ()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [text for requirement in wanted if (text := _what_is_wrong(requirement))]
    shown = ", ".join(f"{name} {version(name)}" for name in SHOWN if not any(text.startswith(name) for text in wrong))
    if wrong:
        yield Finding("packages", PROBLEM, "; ".join(wrong), f"pip install --upgrade {PACKAGE}")
    else:
        yield Finding("packages", OK, f"{shown}, and {len(wanted) - len(SHOWN)} more as they should be")
        yield nnunet_version(version("nnunetv2"))


def _what_is_wrong(requirement: Requirement) -> str:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} is {installed}, but {requirement.specifier} is needed"


def nnunet_version(installed: str) -> Finding:
    """Whether our tests know it."""
    if installed in TESTED_NNUNET:
        return Finding("nnU-Net", OK, f"{installed}, which our tests know")
    known = " or ".join(TESTED_NNUNET)
    remedy = f"if something fails inside nnU-Net, try pip install nnunetv2=={TESTED_NNUNET[-1]}"
    return Finding("nnU-Net", NOTE, f"{installed}; our tests know {known}", remedy)


# ---- nnU-Net's variables, and our classes in it


def variable(name: str, environment: Mapping[str, str]) -> Finding:
    """Whether it is set, and whether there can be written."""
    value = environment.get(name)
    if not value:
        return Finding(name, PROBLEM, "is not set", f"export {name}=/path/to/{name}")
    folder = Path(value)
    if folder.exists() and not folder.is_dir():
        return Finding(name, PROBLEM, f"{folder} is a file", f"export {name}=/path/to/{name}")
    if not folder.is_dir():
        return Finding(name, NOTE if name != VARIABLES[0] else PROBLEM, f"{folder} is not there", f"mkdir -p {folder}")
    if not _can_write(folder):
        is_needed = name != VARIABLES[0]  # raw data may be kept from being changed; only `convert` writes there
        remedy = f"chmod u+w {folder}, or name another folder" if is_needed else "fine, but for `convert`"
        return Finding(name, PROBLEM if is_needed else NOTE, f"{folder} cannot be written to", remedy)
    return Finding(name, OK, str(folder))


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def registration(environment: Mapping[str, str]) -> Finding:
    """Whether `-tr` and `-pl` of nnU-Net find our classes."""
    states = {status.kind: status.state for status in shim_states()}
    if set(states.values()) == {"current"}:
        return Finding("registration", OK, "nnU-Net finds our trainers and planners")
    folders = environment.get(EXTERNAL_VARIABLE, "").split(os.pathsep)
    if str(EXTERNAL_FOLDER) in folders:
        text = f"nnU-Net finds our trainers through {EXTERNAL_VARIABLE}; plan with nnunet-diffusion plan"
        return Finding("registration", OK, text)
    what = ", ".join(f"{kind} {state}" for kind, state in states.items())
    remedy = f"nnunet-diffusion register, or export {EXTERNAL_VARIABLE}={external_folders()}"
    return Finding("registration", PROBLEM, f"nnU-Net does not find our classes ({what})", remedy)


# ---- what it runs on


def device() -> Finding:
    """The device that nnU-Net takes by default, and its memory."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        count, memory = torch.cuda.device_count(), properties.total_memory / GIB
        text = f"{count} GPU(s), the first {properties.name} with {memory:.0f} GiB"
        if memory < FEW_GIB_ON_GPU:
            return Finding("device", NOTE, text, f"plan for it: nnunet-diffusion plan --gpu-memory-target {memory:.0f}")
        return Finding("device", OK, text)
    if torch.backends.mps.is_available():
        return Finding("device", OK, "Apple's GPU: -device mps")
    return Finding("device", NOTE, "no GPU: images of 64 pixels train in minutes, large ones in weeks", "-device cpu")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Threads of torch, and nnU-Net's worker processes, against the cores that there are."""
    import torch
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    number = cores()
    threads = torch.get_num_threads()
    yield _against_cores("threads of torch", threads, number, f"export OMP_NUM_THREADS={number}")
    workers = get_allowed_n_proc_DA()
    yield _against_cores("workers of training", workers, number, f"export nnUNet_n_proc_DA={max(1, number - 1)}")
    workers = int(default_num_processes)
    yield _against_cores("workers of preprocessing", workers, number, f"export nnUNet_def_n_proc={number}")
    if environment.get("OMP_WAIT_POLICY", "").lower() != "passive" and number <= 4:
        text = f"threads that wait keep {number} core(s) busy when anything else runs"
        yield Finding("threads", NOTE, text, "export OMP_WAIT_POLICY=passive")


def _against_cores(about: str, number: int, cores: int, remedy: str) -> Finding:
    text = f"{number} on {cores} core(s)"
    return Finding(about, OK, text) if number <= cores else Finding(about, NOTE, text, remedy)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """What loaders hand images over in, on Linux."""
    if not folder.is_dir():
        return Finding("shared memory", OK, f"this system has no {folder}")
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free in {folder}"
    remedy = "in a container: docker run --ipc=host, or --shm-size=8g"
    if usage.free < DOCKERS_SHARED_MEMORY or usage.total <= DOCKERS_SHARED_MEMORY:
        return Finding("shared memory", PROBLEM, f"{text}: loaders of training will die", remedy)
    return Finding(
        "shared memory", OK if usage.free >= ENOUGH_SHARED_MEMORY else NOTE, text, remedy * (usage.free < GIB)
    )


def disks(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Room in nnU-Net's folders, each disk once."""
    seen: dict[int, str] = {}
    for name in VARIABLES:
        folder = Path(environment.get(name) or "")
        if not environment.get(name) or not folder.is_dir() or folder.stat().st_dev in seen:
            continue
        seen[folder.stat().st_dev] = name
        free = shutil.disk_usage(folder).free / GIB
        verdict = PROBLEM if free < 1 else NOTE if free < FEW_GIB_OF_DISK else OK
        yield Finding("disk", verdict, f"{free:.1f} GiB free for {name}", "make room" if verdict != OK else "")
