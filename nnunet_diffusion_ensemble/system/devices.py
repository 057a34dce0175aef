"""Devices to compute on, by torch's names."""

import torch


def usable_device(name: str | None = None) -> torch.device:
    """The device that a user means.

    Args:
        name: `cuda`, `cuda:1`, `cpu` or `mps`; None is CUDA where it is there, else the CPU.

    Raises:
        ValueError: there is no such device here; those that can be used are named.
    """
    cuda = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    usable = [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if name is None:
        return torch.device("cuda" if cuda else "cpu")
    if name not in usable:
        raise ValueError(f"There is no device {name} here. Choose one of: {', '.join(usable)}.")
    return torch.device(name)
