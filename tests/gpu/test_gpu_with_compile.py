"""torch.compile as nnU-Net uses it on a GPU: no graph break, no recompilation after the first epoch."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo import OptimizedModule
from torch._dynamo.utils import counters

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def epoch(trainer: Any, batch: dict[str, Any]) -> None:
    """Two steps of training, in train mode, and two of validation, in eval mode, as nnU-Net's loop has them."""
    trainer.on_train_epoch_start()
    outputs = [trainer.train_step(batch) for _ in range(2)]
    assert all(output["loss"].isfinite() for output in outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        for _ in range(2):
            trainer.validation_step(batch)
    trainer.current_epoch += 1


@pytest.mark.parametrize("trainer_class", [DiffusionPretrainTrainer, DiffusionEnsembleTrainer])
def test_a_compiled_training_has_no_graph_break_and_compiles_in_the_first_epoch_only(
    trainer_class, start, make_batch, monkeypatch
) -> None:
    monkeypatch.setenv("nnUNet_compile", "t")
    trainer = start(trainer_class)
    assert isinstance(trainer.network, OptimizedModule)
    batch = make_batch(trainer)
    epoch(trainer, batch)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    epoch(trainer, batch)
    assert counters["stats"]["unique_graphs"] == graphs
    assert dict(counters["graph_break"]) == {}
