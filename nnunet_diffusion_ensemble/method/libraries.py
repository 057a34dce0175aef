"""The libraries whose denoisers can be used. A further one needs an entry here and its own code, nothing else."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from nnunet_diffusion_ensemble.system.mistakes import must_be

DENOISER = "nnunet_diffusion_ensemble.denoiser"


@dataclass(frozen=True)
class Library:
    """What there is to know of a library. Its code is named, not imported: libraries take seconds to import.

    Attributes:
        builder: `module:function`, from the arguments of the U-Net's constructor, as JSON, to a `DenoisingUNet`.
        reader: `module:function`, from the path after `LIBRARY:` to a `SavedModel`.
        prefix: where its U-Net stands in the state dict of our `Denoiser`.
        first: its convolution that images come into.
        last: its convolution that predictions come out of.
    """

    builder: str
    reader: str
    prefix: str
    first: str
    last: str

    def build(self, arguments: Any) -> Any:
        """Calls `builder`."""
        return resolve_name(self.builder)(arguments)

    def read(self, path: Any) -> Any:
        """Calls `reader`."""
        return resolve_name(self.reader)(path)


LIBRARIES = {
    "diffusers": Library(
        f"{DENOISER}.unets.libraries:DiffusersUNet",
        f"{DENOISER}.foreign.from_diffusers:read_diffusers",
        *("unet.model.", "conv_in", "conv_out"),
    ),
    "monai": Library(
        f"{DENOISER}.unets.libraries:MonaiUNet",
        f"{DENOISER}.foreign.from_monai:read_monai",
        *("unet.model.", "conv_in.conv", "out.2.conv"),
    ),
    "guided_diffusion": Library(
        f"{DENOISER}.unets.guided_diffusion:unet_from_json",
        f"{DENOISER}.foreign.from_guided_diffusion:read_guided_diffusion",
        *("unet.", "input_blocks.0.0", "out.2"),
    ),
}


def known_library(name: str) -> str:
    """For pydantic: the name, if it is in the table."""
    if name not in LIBRARIES:
        *others, last = LIBRARIES
        raise must_be(f"{', '.join(others)} or {last}")
    return name
