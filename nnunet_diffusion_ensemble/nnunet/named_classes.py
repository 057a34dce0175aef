"""Classes that plans name by dotted path: found, and seen to be parts of networks before anything calls them."""

import pydoc
from collections.abc import Mapping
from typing import Any

from torch import nn

# Packages that may be imported because a file from somebody else says so.
KNOWN_PACKAGES = ("torch.nn.", "dynamic_network_architectures.")


def module_class(name: Any, setting: str) -> type[nn.Module]:
    """The subclass of `torch.nn.Module` of this name. It is imported, not called.

    Args:
        name: dotted path.
        setting: that names it, for the message.

    Raises:
        ValueError: there is none, or it is something else.
    """
    try:
        found = pydoc.locate(name) if isinstance(name, str) else None
    except Exception as error:  # what is imported can raise anything
        raise ValueError(f"{setting} is {name!r}, which cannot be imported ({error}).") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        what = "is no class of networks" if found is not None else "cannot be imported"
        raise ValueError(f"{setting} is {name!r}, which {what}: name a subclass of torch.nn.Module.")
    return found


def check_architecture(architecture: Mapping[str, Any]) -> None:
    """Checks that building a network by a file's `architecture` imports nothing but parts of networks.

    nnU-Net imports what `network_class_name` and the arguments in `_kw_requires_import` name, and calls it.

    Raises:
        ValueError: it names something else, or what it names is not in `KNOWN_PACKAGES`.
    """
    arguments = architecture["arch_kwargs"]
    names = {"network_class_name": architecture["network_class_name"]}
    names |= {key: arguments[key] for key in architecture["_kw_requires_import"] if arguments[key] is not None}
    for setting, name in names.items():
        if not isinstance(name, str) or not name.startswith(KNOWN_PACKAGES):
            raise ValueError(
                f"architecture.{setting} is {name!r}; it must be a class of {' or '.join(KNOWN_PACKAGES)}."
            )
        module_class(name, f"architecture.{setting}")
