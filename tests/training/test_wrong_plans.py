"""Plans with settings that cannot be: every trainer refuses them before it writes anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers import GlobalContrastivePretrainTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.published_trainers import LEDMTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer

TRAINERS = (
    DiffusionPretrainTrainer,
    GlobalContrastivePretrainTrainer,
    DiffusionEnsembleTrainer,
    LEDMTrainer,
    ScratchTrainer,
)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretraining": {"save_samples_every": 0}}, r"pretraining\.save_samples_every must be a whole .*; got 0\."),
        ({"denoiser": {"schedule": "cosin"}}, r"denoiser\.schedule must be cosine, linear or checkpoint; got 'cosin'"),
        ({"ensemble": {"timesteps": 5}}, r"ensemble\.timesteps must be a list .*; got 5\."),
        ({"mirror_axes": [2]}, r"mirror_axes must be below 2, the number of axes of the configuration; got \[2\]"),
    ],
)
def test_a_trainer_refuses_wrong_plans_before_anything_is_written(
    trainer: type, settings: dict[str, Any], message: str, make_trainer: Callable, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"^diffusion\.{message}"):
        make_trainer(trainer, diffusion=settings)
    assert sorted(tmp_path.rglob("*")) == before
