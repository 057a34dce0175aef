"""Trainers of the pretraining on made-up cases, with and without their data."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training import pretraining as image_pretraining

CASES = [f"case_{i}" for i in range(5)]
FOLDER = "preprocessed/Dataset001_Made/nnUNetPlans_2d"


@pytest.fixture
def make_pretraining(make_trainer, tmp_path: Path, monkeypatch):
    """Trainers with some unlabelled images, as if these had been preprocessed before."""
    monkeypatch.setattr(image_pretraining, "preprocess_unlabelled", lambda *arguments: None)

    def make(
        num_unlabelled: int = 0,
        options: dict | None = None,
        trainer_class: type = DiffusionPretrainTrainer,
        **arguments: Any,
    ) -> Any:
        folder = tmp_path / f"{FOLDER}_unlabelled"
        folder.mkdir(exist_ok=True)
        for i in range(num_unlabelled):
            for ending in (".b2nd", "_seg.b2nd", ".pkl"):
                shutil.copy(tmp_path / FOLDER / f"case_0{ending}", folder / f"other_{i}{ending}")
        return make_trainer(trainer_class, options, **arguments)

    return make


@pytest.fixture
def started(make_trainer):
    def start(options: dict | None = None, **arguments: Any) -> DiffusionPretrainTrainer:
        trainer = make_trainer(DiffusionPretrainTrainer, options, **arguments)
        trainer.initialize()
        return trainer

    return start
