"""Timestep ensembling diffusion models (TEDM, Rosnati et al. 2023, arXiv 2311.07421) as an nnU-Net plugin.

The names of `__all__` are the Python API. They are imported when they are asked for, so that importing the package
costs nothing.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.api.denoiser import LoadedDenoiser, load_denoiser
    from nnunet_diffusion_ensemble.api.model import LoadedModel, load_model
    from nnunet_diffusion_ensemble.prediction.case import Prediction

__version__ = "0.1.0"
__all__ = ["LoadedDenoiser", "LoadedModel", "Prediction", "__version__", "load_denoiser", "load_model"]

_MODULES = {
    "LoadedDenoiser": "api.denoiser",
    "LoadedModel": "api.model",
    "Prediction": "prediction.case",
    "load_denoiser": "api.denoiser",
    "load_model": "api.model",
}

# An installed package holds its trainers and planners, a checkout has them beside it. Where Python starts in a checkout
# this folder hides the installed one, and nnU-Net's look-ups must find them all the same.
if not (Path(__file__).parent / "trainers" / "__init__.py").is_file():
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
