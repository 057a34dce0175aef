"""`nnunet-diffusion self-train` on real X-rays: looked at, killed in the student's training, and taken up again."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_commands import ENSEMBLE, EXTERNAL
from PIL import Image
from xray_chain import PLANS, XRAYS, Chain, copy_pngs, names_in

from nnunet_diffusion_ensemble.denoiser.pretrained import BEFORE_FINE_TUNING

pytestmark = pytest.mark.slow

STUDENT_DATA, STUDENT = "Dataset101_LungsSelfTrained1", "DiffusionEnsembleSelfTrainer"
MINUTES = ("--minutes", 0.05, "--clock", "cpu", "--iterations-per-epoch", 3)


def command(chain: Chain, *options: object) -> list[object]:
    teacher = ["-m", chain.workplace.trained(ENSEMBLE, PLANS), "-f", 0, "-device", "cpu"]
    where = ["-o", "self_training", "--number", 101, "--images", chain.workplace.root / "new_hospital", "-np", 1]
    return ["nnunet-diffusion", "self-train", *teacher, *where, *MINUTES, *options]


@pytest.fixture(scope="module")
def output(xray_chain: Chain) -> Path:
    """Of a run that was first a dry one, then killed while the student was trained, and then finished."""
    workplace = xray_chain.workplace
    names = names_in(XRAYS / "shenzhen" / "images")[5:9]
    converted = copy_pngs(XRAYS / "shenzhen" / "images", names, workplace.root / "png" / "new_hospital")
    (workplace.root / "new_hospital").mkdir()
    for file in converted.iterdir():
        image = Image.open(file).convert("L").resize((48, 48))
        image.save(workplace.root / "new_hospital" / f"{file.stem}_0000.png")
    said = workplace.run(*command(xray_chain, "--dry-run"))
    assert "Nothing was trained" in said
    assert not (workplace.raw / STUDENT_DATA).exists()
    workplace.run_until("training the student", *command(xray_chain))
    said = workplace.run(*command(xray_chain))
    assert "predicting" not in said
    return workplace.root / "self_training"


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "round_1" / "images.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_unlabelled_image_has_its_row(xray_chain: Chain, output: Path) -> None:
    found = {row["case"] for row in rows(output)}
    expected = {file.name.removesuffix("_0000.png") for file in (xray_chain.raw / "imagesUn").iterdir()}
    assert found == expected | {file.stem.removesuffix("_0000") for file in (output.parent / "new_hospital").iterdir()}
    assert all((row["reason"] == "") == (row["verdict"] == "accepted") for row in rows(output))


def test_the_student_was_trained_on_true_labels_and_accepted_ones(xray_chain: Chain, output: Path) -> None:
    raw = xray_chain.workplace.raw / STUDENT_DATA
    accepted = {row["case"] for row in rows(output) if row["verdict"] == "accepted"}
    (split,) = json.loads((raw / "splits_final.json").read_text())
    true = [case for case in split["train"] if case not in accepted]
    assert set(true) == set(xray_chain.training_names)
    assert set(split["train"]) - set(true) == accepted
    assert len(true) / len(split["train"]) == pytest.approx(0.5, abs=0.02)
    assert not accepted & set(split["val"])
    assert (raw / "imagesTr" / f"{next(iter(accepted))}_0000.png").is_file()


def test_doubtful_pixels_have_the_ignore_label(xray_chain: Chain, output: Path) -> None:
    raw = xray_chain.workplace.raw / STUDENT_DATA
    assert json.loads((raw / "dataset.json").read_text())["labels"] == {"background": 0, "lung": 1, "ignore": 2}
    for row in rows(output):
        if row["verdict"] == "accepted":
            labels = np.asarray(Image.open(raw / "labelsTr" / f"{row['case']}.png"))
            assert (labels != 2).mean() == pytest.approx(float(row["kept_pixels"]), abs=1e-5)


def test_the_student_learns_from_where_the_teacher_is_and_predicts(xray_chain: Chain, output: Path) -> None:
    workplace = xray_chain.workplace
    teacher, student = (
        torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for folder in (
            workplace.trained(ENSEMBLE, PLANS),
            workplace.results / STUDENT_DATA / f"{STUDENT}__{PLANS}__2d",
        )
    )
    pretrained = teacher[BEFORE_FINE_TUNING]
    assert all(torch.equal(student[BEFORE_FINE_TUNING][name], value) for name, value in pretrained.items())
    weights, before = student["network_weights"], teacher["network_weights"]
    assert any(not torch.equal(weights[name], before[name]) for name in before)
    stem = "denoiser.unet.encoder.stem.convs.0.conv.weight"
    distances = [(weights[stem] - start[stem]).abs().mean() for start in (before, pretrained)]
    assert distances[0] < distances[1]  # a few steps from the teacher's, not from the pretrained one
    images = xray_chain.test_set("shenzhen")
    model = ["-d", 101, "-c", "2d", "-tr", STUDENT, "-p", PLANS, "-f", 0, "-device", "cpu"]
    predictions = workplace.root / "student"
    workplace.run("nnUNetv2_predict", *model, "-i", images / "imagesTr", "-o", predictions, **EXTERNAL)
    assert workplace.mean_dice(images / "labelsTr", predictions) > 0.7
