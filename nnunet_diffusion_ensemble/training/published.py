"""The methods compared in TEDM's paper (arXiv 2311.07421), each spelled out, whatever the plans or defaults say."""

from collections.abc import Mapping
from typing import Any, ClassVar

from nnunet_diffusion_ensemble.method import (
    CONCATENATED_FEATURES,
    MEAN_PREDICTION,
    PUBLISHED_TIMESTEPS,
    DiffusionMethod,
)
from nnunet_diffusion_ensemble.training.timesteps import TimestepTrainer

__all__ = [
    "LEDMTrainer",
    "LEDMeTrainer",
    "PDDMTrainer",
    "SingleTimestep1Trainer",
    "SingleTimestep10Trainer",
    "SingleTimestep25Trainer",
    "SingleTimestep50Trainer",
    "SingleTimestep500Trainer",
    "SingleTimestep950Trainer",
    "SingleTimestepTrainer",
    "TEDMTrainer",
]

TEDM = {
    "ensemble.timesteps": PUBLISHED_TIMESTEPS,
    "ensemble.fusion": MEAN_PREDICTION,
    "ensemble.adds_noise": True,
    "ensemble.head.hidden_features": (128, 32),
    "ensemble.head.kernel_size": 1,
    "ensemble.head.interpolation": "nearest",
    "ensemble.head.finest_levels": None,
    "training.fine_tune_denoiser": False,
    "training.head_first": 0.0,
    "training.timesteps_per_image": None,
    "training.augmentation": "nnunet",
}
LEDM_TIMESTEPS = (50, 150, 250)


class TEDMTrainer(TimestepTrainer):
    """One head, shared by eight timesteps of the frozen denoiser; the mean of their probabilities is the prediction."""

    changes: ClassVar[Mapping[str, Any]] = TEDM


class LEDMeTrainer(TimestepTrainer):
    """One head on the features of the eight timesteps, concatenated."""

    changes: ClassVar[Mapping[str, Any]] = {**TEDM, "ensemble.fusion": CONCATENATED_FEATURES}


class LEDMTrainer(TimestepTrainer):
    """One head on the concatenated features of three timesteps (Baranchuk et al. 2022, arXiv 2112.03126)."""

    changes: ClassVar[Mapping[str, Any]] = {**LEDMeTrainer.changes, "ensemble.timesteps": LEDM_TIMESTEPS}


class PDDMTrainer(TimestepTrainer):
    """The pretrained denoiser, fine-tuned end to end: a 1x1 convolution to the classes in the place of its last one.

    It sees the image without noise and is told timestep 0, the one with the least noise in the pretraining.
    """

    changes: ClassVar[Mapping[str, Any]] = {
        **TEDM,
        "ensemble.timesteps": (0,),
        "ensemble.adds_noise": False,
        "ensemble.head.hidden_features": (),
        "ensemble.head.finest_levels": 1,
        "training.fine_tune_denoiser": True,
    }


class SingleTimestepTrainer(TimestepTrainer):
    """A linear head on the features of one timestep, `ensemble.single_timestep` of the plans."""

    changes: ClassVar[Mapping[str, Any]] = {**TEDM, "ensemble.head.hidden_features": ()}

    @classmethod
    def changes_to(cls, method: DiffusionMethod) -> Mapping[str, Any]:
        return {**super().changes_to(method), "ensemble.timesteps": (method.ensemble.single_timestep,)}


class SingleTimestep1Trainer(TimestepTrainer):
    """A linear head on the features of timestep 1."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (1,)}


class SingleTimestep10Trainer(TimestepTrainer):
    """A linear head on the features of timestep 10."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (10,)}


class SingleTimestep25Trainer(TimestepTrainer):
    """A linear head on the features of timestep 25."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (25,)}


class SingleTimestep50Trainer(TimestepTrainer):
    """A linear head on the features of timestep 50."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (50,)}


class SingleTimestep500Trainer(TimestepTrainer):
    """A linear head on the features of timestep 500."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (500,)}


class SingleTimestep950Trainer(TimestepTrainer):
    """A linear head on the features of timestep 950."""

    changes: ClassVar[Mapping[str, Any]] = {**SingleTimestepTrainer.changes, "ensemble.timesteps": (950,)}
