"""Each trainer of the paper's rows with nnU-Net's own entry points, from the pretraining to the prediction.

Run as a script, this file calls these entry points one after the other, which a process for each would do no better.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from nnunet_commands import PRETRAIN, TINY, TINY_PLANS, Workplace, change_plans, training, write_rectangles
from PIL import Image

pytestmark = pytest.mark.slow

TIMESTEPS = {
    "TEDMTrainer": [1, 10, 25, 50, 200, 400, 600, 800],
    "LEDMTrainer": [50, 150, 250],
    "LEDMeTrainer": [1, 10, 25, 50, 200, 400, 600, 800],
    "PDDMTrainer": [0],
    "SingleTimestepTrainer": [30],
    "SingleTimestep950Trainer": [950],
}
PRETRAININGS = (PRETRAIN, "GlobalContrastivePretrainTrainer")
TRAINERS = (*TIMESTEPS, "DiffusionEnsembleTrainer", "ScratchTrainer", "GlobalContrastiveTrainer")
CASES = [f"case_{i}" for i in range(4)]
VALIDATED = CASES[3:]
SHORT = {
    "pretraining.num_samples": 2,
    "pretraining.num_sampling_steps": 2,
    "contrastive.num_epochs": 1,
    "contrastive.num_iterations_per_epoch": 2,
    "training.num_val_iterations_per_epoch": 1,
    "ensemble.single_timestep": 30,
}


# ---- in the process of all commands


def train_and_predict(root: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point
    from nnunetv2.run.run_training import run_training_entry

    for trainer in (*PRETRAININGS, *TRAINERS):
        sys.argv = [str(word) for word in training(trainer, TINY_PLANS, "all" if trainer in PRETRAININGS else 0)]
        run_training_entry()
    for trainer in TRAINERS:
        model = f"-d 1 -c 2d -tr {trainer} -p {TINY_PLANS} -f 0 -device cpu -npp 0 -nps 0"
        folders = ["-i", str(root / "images"), "-o", str(root / "predicted" / trainer)]
        sys.argv = ["nnUNetv2_predict", *model.split(), *folders]
        predict_entry_point()


if __name__ == "__main__":
    train_and_predict(Path(sys.argv[1]))


# ---- in pytest


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With every trainer's model, and its prediction of the case that it was validated on."""
    made = Workplace(tmp_path_factory.mktemp("published"), "Dataset001_Rectangles", external=True)
    raw = made.raw / made.dataset
    write_rectangles(raw, CASES)
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", TINY_PLANS, *TINY, "-np", 1)
    plans = change_plans(made.plans(TINY_PLANS), TINY_PLANS, SHORT)
    made.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", TINY_PLANS, "-c", "2d", "-np", 1)
    (plans.parent / "splits_final.json").write_text(json.dumps([{"train": CASES[:3], "val": VALIDATED}]))
    (made.root / "images").mkdir()
    for case in VALIDATED:
        (made.root / "images" / f"{case}_0000.png").symlink_to(raw / "imagesTr" / f"{case}_0000.png")
    made.run("python", __file__, made.root)
    return made


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_predict_command_segments_as_the_validation_at_the_end_of_training(workplace, trainer) -> None:
    for case in VALIDATED:
        validation = workplace.trained(trainer, TINY_PLANS) / "fold_0" / "validation" / f"{case}.png"
        predicted = workplace.root / "predicted" / trainer / f"{case}.png"
        found = np.asarray(Image.open(predicted))
        assert set(np.unique(found)) <= {0, 1}
        np.testing.assert_array_equal(found, np.asarray(Image.open(validation)))


@pytest.mark.parametrize("trainer", TIMESTEPS)
def test_the_plans_beside_the_model_say_its_timesteps(workplace, trainer) -> None:
    plans = json.loads((workplace.trained(trainer, TINY_PLANS) / "plans.json").read_text())
    assert plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] == TIMESTEPS[trainer]
