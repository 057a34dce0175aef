"""Contrastive pretraining, fine-tuning and prediction with nnU-Net's own commands, and in two processes.

Run as a script, this file is one of these processes.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_commands import Workplace, change_plans, training
from PIL import Image
from test_two_processes import TORCHRUN, write_raw_dataset
from torch import distributed as dist

pytestmark = pytest.mark.slow

GLOBAL, LOCAL = "GlobalContrastivePretrainTrainer", "GlobalLocalContrastivePretrainTrainer"
TUNED = "GlobalLocalContrastiveTrainer"
PLANS, BATCH_SIZE, NUM_STEPS = "Tiny", 4, 4
OPTIONS = (
    *("--batch-size", 2, "--pretraining-batch-size", BATCH_SIZE, "--base-features", 4, "--blocks-per-stage", 1),
    *("--epochs", 1, "--iterations", 2),
)
SHORT = {
    "contrastive.num_epochs": 2,
    "contrastive.num_iterations_per_epoch": 2,
    "contrastive.num_regions": 4,
    "pretraining.warmup_iterations": 0,
}


# ---- in the processes


def take_steps(trainer_name: str) -> dict[str, Any]:
    """Steps on a fixed batch, of which each process takes its share."""
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args("1", "2d", "all", trainer_name, PLANS, device=torch.device("cpu"))
    torch.manual_seed(0)
    trainer.initialize()
    trainer.get_tr_and_val_datasets()
    trainer.on_train_epoch_start()
    size = (BATCH_SIZE, 2, *trainer.configuration_manager.patch_size)
    data, own = torch.randn(size), slice(trainer.share.start, trainer.share.start + trainer.batch_size)
    keys = trainer.training_images.identifiers[[0, 1, 1, 2]]
    losses = [trainer.train_step({"data": data[own], "keys": keys[own]})["loss"] for _ in range(NUM_STEPS)]
    return {"losses": np.array(losses), "weights": trainer.plain_network.state_dict(), "batch": trainer.batch_size}


if __name__ == "__main__":
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    results = {name: take_steps(name) for name in (GLOBAL, LOCAL)}
    torch.save(results, Path(sys.argv[1]) / f"{os.environ['RANK']}.pth")
    sys.exit()


# ---- in pytest


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With data preprocessed, and both stages of the pretraining done."""
    made = Workplace(tmp_path_factory.mktemp("contrastive"), "Dataset001_Rectangles", external=True)
    write_raw_dataset(made.raw / made.dataset)
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", PLANS, *OPTIONS, "-np", 1)
    change_plans(made.plans(PLANS), PLANS, SHORT)
    made.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", 1)
    for trainer in (GLOBAL, LOCAL):
        made.run(*training(trainer, PLANS, "all"))
    return made


def final(workplace: Workplace, trainer: str, fold: object) -> dict[str, torch.Tensor]:
    file = workplace.trained(trainer, PLANS) / f"fold_{fold}" / "checkpoint_final.pth"
    return torch.load(file, weights_only=False)["network_weights"]


def test_the_second_stage_keeps_the_encoder_of_the_first_and_trains_decoder_stages(workplace: Workplace) -> None:
    first, second = final(workplace, GLOBAL, "all"), final(workplace, LOCAL, "all")
    names = [name for name in first if name.startswith("encoder.")]
    assert len(names) > 20
    assert all(torch.equal(first[name], second[name]) for name in names)
    assert (workplace.trained(LOCAL, PLANS) / "fold_all" / "progress.png").is_file()


def test_a_fine_tuned_network_predicts(workplace: Workplace) -> None:
    workplace.run(*training(TUNED, PLANS, 0))
    (log,) = (workplace.trained(TUNED, PLANS) / "fold_0").glob("training_log_*.txt")
    file = workplace.trained(LOCAL, PLANS) / "fold_all" / "checkpoint_final.pth"
    assert f"Pretrained weights: {file}" in log.read_text()
    images, output = workplace.raw / workplace.dataset / "imagesUn", workplace.root / "predicted"
    model = ["-d", 1, "-c", "2d", "-tr", TUNED, "-p", PLANS, "-f", 0, "-device", "cpu"]
    workplace.run("nnUNetv2_predict", *model, "-i", images, "-o", output)
    masks = {file.stem: np.asarray(Image.open(file)) for file in output.glob("*.png")}
    assert sorted(masks) == ["other_0", "other_1", "other_2"]
    assert {mask.shape for mask in masks.values()} == {(32, 40)}


def run_processes(workplace: Workplace, num_processes: int) -> list[dict[str, Any]]:
    output = workplace.root / str(num_processes)
    output.mkdir()
    start = ["--standalone", "--nproc-per-node", num_processes]
    workplace.run("python", *TORCHRUN, *start, __file__, output)
    return [torch.load(output / f"{rank}.pth", weights_only=False) for rank in range(num_processes)]


def test_two_processes_learn_what_one_does_with_the_same_global_batch(workplace: Workplace) -> None:
    (one,), (first, second) = (run_processes(workplace, number) for number in (1, 2))
    for trainer in (GLOBAL, LOCAL):
        assert [state[trainer]["batch"] for state in (one, first, second)] == [4, 2, 2]
        assert one[trainer]["losses"][-1] < one[trainer]["losses"][0]  # it learns, so that steps matter
        mean = (first[trainer]["losses"] + second[trainer]["losses"]) / 2
        np.testing.assert_allclose(mean, one[trainer]["losses"], rtol=1e-3)
        expected = second[trainer]["weights"]
        assert all(torch.equal(value, expected[name]) for name, value in first[trainer]["weights"].items())
