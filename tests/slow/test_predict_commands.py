"""The commands themselves: `nnunet-diffusion predict` beside `nnUNetv2_predict`, on the same model and images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_commands import Workplace

pytestmark = pytest.mark.slow
MODEL = "DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d"


def test_both_commands_write_the_same_segmentations(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "work", "Dataset001_Made", external=True)
    (workplace.results / workplace.dataset).mkdir()
    model_folder(folds=(0, 1)).rename(workplace.results / workplace.dataset / MODEL)
    cases, stock, ours = images(num_cases=3), tmp_path / "stock", tmp_path / "ours"
    workplace.predict("nnUNetDiffusionEnsemblePlans", cases, stock, folds="0 1")
    options = ["-d", 1, "-c", "2d", "-f", 0, 1, "-device", "cpu"]
    workplace.run("nnunet-diffusion", "predict", "-i", cases, "-o", ours, *options)
    for name in ("case_0.nii.gz", "case_1.nii.gz", "case_2.nii.gz"):
        found, expected = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name))) for folder in (ours, stock))
        assert np.array_equal(found, expected)
        assert len(np.unique(found)) > 1
    assert len((ours / "uncertainty.csv").read_text().splitlines()) == 4
