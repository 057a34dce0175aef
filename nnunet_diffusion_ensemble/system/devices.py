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
        raise ValueError(f"There is no device {name} here. Choose one of: {', '.join(usable)}.")
    return torch.device(name)
