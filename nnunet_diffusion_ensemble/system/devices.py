"""Devices to compute on, by torch's names."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def usable_devices() -> list[str]:
    """Those that are here, e.g. `cuda`, `cuda:0`, `cuda:1`, `cpu`."""
    import torch  # takes seconds, and readers of settings need it not

    cuda = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def usable_device(name: str | None = None) -> "torch.device":
    """The device that a user means.

    Args:
        name: one of `usable_devices`; None is CUDA where it is there, else the CPU.

    Raises:
        ValueError: there is no such device here; those that can be used are named.
    """
    import torch

    usable = usable_devices()
    if name is None:
        return torch.device("cuda" if "cuda" in usable else "cpu")
    if name not in usable:
        raise ValueError(
            f"There is no device {name} here. Choose one of: {', '.join(usable)} (-device {usable[-1]}).{_why(name)}"
        )
    return torch.device(name)


def _why(name: str) -> str:
    """What stands between torch and a GPU, as far as torch knows."""
    import torch

    if not name.startswith("cuda") or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return " This torch is built without CUDA: install one with it (pytorch.org/get-started)."
    return (
        f" This torch is built for CUDA {torch.version.cuda}, and finds no GPU or a driver too old for it: nvidia-smi "
        "says what is there."
    )
