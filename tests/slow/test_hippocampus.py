"""3D segmentation of real volumes with three classes, by an nnU-Net that our classes are not registered with."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nnunetv2
import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_commands import DATA

from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER, EXTERNAL_VARIABLE

HIPPOCAMPUS = DATA / "hippocampus"
LABELS = {"background": 0, "anterior": 1, "posterior": 2}
CASES = [f.name.removesuffix(".nii.gz") for f in sorted(HIPPOCAMPUS.glob("images/*.nii.gz"))]
TRAINED, TESTED = CASES[:6], CASES[6:8]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES, reason=f"needs the hippocampus volumes in {HIPPOCAMPUS}"),
]


def write_raw_dataset(folder: Path) -> None:
    for name in ("imagesTr", "labelsTr", "imagesUn", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    for case in TRAINED:
        shutil.copy(HIPPOCAMPUS / "images" / f"{case}.nii.gz", folder / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(HIPPOCAMPUS / "labels" / f"{case}.nii.gz", folder / "labelsTr")
    for file in sorted(HIPPOCAMPUS.glob("unlabelled/*.nii.gz"))[:4]:
        shutil.copy(file, folder / "imagesUn" / file.name.replace(".nii.gz", "_0000.nii.gz"))
    for case in TESTED:
        save_turned(HIPPOCAMPUS / "images" / f"{case}.nii.gz", folder / "imagesTs" / f"{case}_0000.nii.gz")
        save_turned(HIPPOCAMPUS / "labels" / f"{case}.nii.gz", folder / "labelsTs" / f"{case}.nii.gz")
    dataset = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": len(TRAINED), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))


def save_turned(source: Path, target: Path) -> None:
    """Copies a volume into another place in the scanner: shifted, turned by 30 degrees, with other voxel sizes."""
    volume = sitk.ReadImage(str(source))
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    volume.SetOrigin((12.5, -40.0, 7.25))
    volume.SetSpacing((1.0, 1.2, 0.9))
    volume.SetDirection((cosine, -sine, 0.0, sine, cosine, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(volume, str(target))


def copy_of_nnunet(folder: Path) -> str:
    """nnU-Net as installed but for what `register` writes; its folder goes before the installed one."""
    ours = shutil.ignore_patterns("nnunet_diffusion_*", "__pycache__")
    shutil.copytree(Path(next(iter(nnunetv2.__path__))), folder / "nnunetv2", ignore=ours)
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="module")
def chain(make_chain: Callable, tmp_path_factory: pytest.TempPathFactory):
    """Trained and used for prediction in an environment that could not be written to."""
    site = copy_of_nnunet(tmp_path_factory.mktemp("site"))
    workers = {"nnUNet_npp": "1", "nnUNet_nps": "1"}  # of prediction, as it has them where nobody says otherwise
    made = make_chain("3d_fullres", **{"PYTHONPATH": site, EXTERNAL_VARIABLE: str(EXTERNAL_FOLDER)}, **workers)
    write_raw_dataset(made.workplace.raw / "Dataset001_Hippocampus")
    made.plan_and_preprocess()
    made.train()
    made.predict(made.workplace.raw / "Dataset001_Hippocampus" / "imagesTs")
    return made


def volume(file: Path) -> sitk.Image:
    return sitk.ReadImage(str(file))


def test_nothing_was_registered_where_the_trainers_were_found(chain) -> None:
    output = chain.workplace.run("nnunet-diffusion", "register", "--check", fails=True, **chain.variables)
    assert output.count("missing: ") == 2


def test_unlabelled_volumes_are_pretrained_on(chain) -> None:
    log = next(chain.folder("DiffusionPretrainTrainer", "all").glob("training_log_*.txt")).read_text()
    assert "Pretraining on 9 images, 1 held out (4 unlabelled among them)" in log


def test_predictions_lie_where_the_images_do(chain) -> None:
    raw = chain.workplace.raw / "Dataset001_Hippocampus"
    for case in TESTED:
        image = volume(raw / "imagesTs" / f"{case}_0000.nii.gz")
        prediction = volume(chain.workplace.root / "predictions" / f"{case}.nii.gz")
        assert prediction.GetSize() == image.GetSize()
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(prediction, get)(), getattr(image, get)(), atol=1e-6)


def test_predictions_hold_labels_of_the_data_set_only(chain) -> None:
    for case in TESTED:
        prediction = sitk.GetArrayFromImage(volume(chain.workplace.root / "predictions" / f"{case}.nii.gz"))
        assert set(np.unique(prediction)) <= set(LABELS.values())


def test_nnunets_evaluation_agrees_with_dice_counted_here(chain) -> None:
    truth, predicted = chain.workplace.raw / "Dataset001_Hippocampus" / "labelsTs", chain.workplace.root / "predictions"
    files = ("-djfile", predicted / "dataset.json", "-pfile", predicted / "plans.json", "-np", 1)
    chain.workplace.run("nnUNetv2_evaluate_folder", truth, predicted, *files, **chain.variables)
    summary = json.loads((predicted / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(TESTED)
    for case in summary["metric_per_case"]:
        a, b = (sitk.GetArrayFromImage(volume(Path(case[f"{which}_file"]))) for which in ("reference", "prediction"))
        for label in (1, 2):
            expected = 2 * np.sum((a == label) & (b == label)) / (np.sum(a == label) + np.sum(b == label))
            assert case["metrics"][str(label)]["Dice"] == pytest.approx(expected)
