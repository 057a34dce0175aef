"""`nnunet-diffusion distil`, and its student in stock nnU-Net in an environment that cannot import this package."""

import json
import os
from pathlib import Path

import pytest
import torch
from nnunet_commands import ENSEMBLE
from xray_chain import DATASET, PLANS, Chain

pytestmark = pytest.mark.slow

FORBIDDEN = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nnunet_diffusion_ensemble":
            raise ModuleNotFoundError(f"No module named {name!r}: it is not to be imported here")

sys.meta_path.insert(0, Forbidden())
"""
STUDENT_PLANS = f"{PLANS}Distilled"


@pytest.fixture(scope="module")
def student(xray_chain: Chain) -> Path:
    """Distilled in a few seconds."""
    workplace = xray_chain.workplace
    teacher = ["-m", workplace.trained(ENSEMBLE, PLANS), "-f", 0, "--timesteps", 1, 10, "--fold", 0, "-device", "cpu"]
    length = ["--minutes", 0.3, "--clock", "cpu", "--iterations-per-epoch", 20]
    said = workplace.run("nnunet-diffusion", "distil", *teacher, *length)
    folder = workplace.results / DATASET / f"nnUNetTrainer__{STUDENT_PLANS}__2d"
    assert f"Wrote {folder}" in said
    return folder


def test_the_model_says_nothing_of_this_package(student: Path) -> None:
    checkpoint = torch.load(student / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    for plans in (checkpoint["init_args"]["plans"], json.loads((student / "plans.json").read_text())):
        assert {"diffusion", "distillation"}.isdisjoint(plans["configurations"]["2d"])
        assert plans["plans_name"] == STUDENT_PLANS


def test_stock_nnunet_predicts_with_it_where_this_package_cannot_be_imported(xray_chain: Chain, student: Path) -> None:
    workplace, images = xray_chain.workplace, xray_chain.test_set("shenzhen")
    hidden = workplace.root / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(FORBIDDEN)
    variables = {"PYTHONPATH": str(hidden), "nnUNet_extTrainer": ""}
    said = workplace.run("nnunet-diffusion", "--version", fails=True, **variables)
    assert "it is not to be imported here" in said
    output = workplace.root / "distilled"
    model = ["-d", 1, "-c", "2d", "-tr", "nnUNetTrainer", "-p", STUDENT_PLANS, "-f", 0, "-device", "cpu"]
    workplace.run("nnUNetv2_predict", *model, "-i", images / "imagesTr", "-o", output, **variables)
    assert len(os.listdir(output)) >= len(os.listdir(images / "imagesTr"))
    assert workplace.mean_dice(images / "labelsTr", output) > 0.6
