"""Pretrainings are known by their class: a subclass under another name is one, and old checkpoints by their name."""

from pathlib import Path
from typing import Any

import pytest

from nnunet_diffusion_ensemble.denoiser.pretrained import find_pretrained_checkpoint, read_pretrained
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import (
    DENOISER,
    GLOBAL,
    LOCAL,
    PRETRAINS,
    TRAINER_OF,
    finished_pretraining,
    pretrained_by,
)
from nnunet_diffusion_ensemble.training.contrastive.fine_tuning import GlobalContrastiveTrainer
from nnunet_diffusion_ensemble.training.contrastive.pretrain_trainers import (
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
)
from nnunet_diffusion_ensemble.training.denoising import DiffusionPretrainTrainer

PLANS = "SomePlans"


def checkpoint(trainer: str, **more: Any) -> dict[str, Any]:
    return {"network_weights": {}, "init_args": {}, "trainer_name": trainer, **more}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "Dataset001_Made"


def add(results: Path, trainer: str, pretrains: str | None, fold: object = 0, which: str = "final") -> Path:
    file = results / f"{trainer}__{PLANS}__2d" / f"fold_{fold}" / f"checkpoint_{which}.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint(trainer, **{PRETRAINS: pretrains}), file)
    return file


def find(results: Path, what: str = DENOISER) -> Path:
    return finished_pretraining(results, what, PLANS, "2d", 0)


@pytest.mark.parametrize(
    ("trainer", "pretrains"),
    [
        (DiffusionPretrainTrainer, DENOISER),
        (GlobalContrastivePretrainTrainer, GLOBAL),
        (GlobalLocalContrastivePretrainTrainer, LOCAL),
        (GlobalContrastiveTrainer, None),
    ],
)
def test_a_checkpoint_from_before_the_key_is_known_by_its_trainers_name(trainer: Any, pretrains: str | None) -> None:
    assert pretrained_by(checkpoint(trainer.__name__)) == trainer.pretrains == pretrains


def test_the_key_decides_and_not_the_name() -> None:
    assert pretrained_by(checkpoint("Mine", **{PRETRAINS: DENOISER})) == DENOISER
    assert pretrained_by(checkpoint(TRAINER_OF[DENOISER], **{PRETRAINS: None})) is None


@pytest.mark.parametrize("what", TRAINER_OF)
def test_a_pretraining_of_another_trainer_is_found(what: str, results: Path) -> None:
    add(results, "Segmenting", None)
    for other in set(TRAINER_OF) - {what}:
        add(results, TRAINER_OF[other], other)
    expected = add(results, "Mine", what)
    assert find(results, what) == expected


def test_that_of_our_own_trainer_comes_first(results: Path) -> None:
    add(results, "Mine", DENOISER)
    expected = add(results, TRAINER_OF[DENOISER], DENOISER, "all")
    assert find(results) == expected


def test_that_of_the_fold_comes_before_that_of_all(results: Path) -> None:
    add(results, "Another", DENOISER, "all")
    expected = add(results, "Mine", DENOISER, 0)
    assert find(results) == expected


def test_of_two_other_trainers_none_is_chosen(results: Path) -> None:
    files = add(results, "A", DENOISER), add(results, "B", DENOISER)
    with pytest.raises(ValueError, match="Several trainers have pretrained the denoiser") as error:
        find(results)
    assert all(str(file) in str(error.value) for file in files)


def test_what_another_trainer_has_begun_is_finished_with_that_trainer(results: Path) -> None:
    add(results, "Mine", DENOISER, "all", "latest")
    with pytest.raises(FileNotFoundError, match=r"has not finished.*\n.*2d all -tr Mine -p SomePlans --c"):
        find(results)


class Renamed(DiffusionPretrainTrainer):
    """What a user writes."""


def test_what_a_subclass_under_another_name_saves_is_found_and_read(make_trainer: Any, results: Path) -> None:
    trainer = make_trainer(Renamed)
    trainer.initialize()
    file = add(results, "Renamed", None)
    trainer.save_checkpoint(str(file))
    assert find_pretrained_checkpoint(results, PLANS, "2d", 0, from_plans=None) == file
    assert set(read_pretrained(file).weights) == set(trainer.plain_network.state_dict())
