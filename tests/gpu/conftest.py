"""Trainers on a GPU, and batches of the kind that each of them takes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from nnunet_diffusion_ensemble.training.contrastive.pretraining import ContrastivePretrainTrainer

SHORT = {
    "training.num_epochs": 2,
    "training.num_iterations_per_epoch": 3,
    "training.num_val_iterations_per_epoch": 1,
    "contrastive.num_decoder_stages": 1,
}
IMAGES = 3


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """In float32 and not in TF32, which nobody could compare with a CPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def start(make_pretraining: Callable[..., Any]) -> Callable[..., Any]:
    """`start(TrainerClass, "cuda", options)`: a trainer at the start of its first epoch, with weights by chance."""

    def started(trainer_class: type, device: str = "cuda", options: dict[str, Any] | None = None, **others: Any) -> Any:
        trainer = make_pretraining(
            0, SHORT | (options or {}), trainer_class, device=device, fold="all", batch_size=IMAGES, **others
        )
        trainer.initialize()
        if isinstance(trainer, ContrastivePretrainTrainer):
            trainer.get_tr_and_val_datasets()
        trainer.on_train_epoch_start()
        return trainer

    return started


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """`make_batch(trainer, seed)`: bright squares, what they are labelled as, and names; pinned if there is a GPU."""

    def made(trainer: Any, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        views = 2 if isinstance(trainer, ContrastivePretrainTrainer) else 1
        data = torch.randn(IMAGES, views, 16, 16, generator=generator)
        target = torch.zeros(IMAGES, 1, 16, 16, dtype=torch.int16)
        data[..., 4:10, 5:12] += 2
        target[..., 4:10, 5:12] = 1
        if torch.cuda.is_available():
            data, target = data.pin_memory(), target.pin_memory()
        return {"data": data, "target": target, "index": 0, "keys": [f"case_{i}" for i in range(IMAGES)]}

    return made
