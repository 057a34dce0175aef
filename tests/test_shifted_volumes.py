"""Another scanner by formula, benchmarks/hippocampus.py: what each shift does to volumes whose result is known."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scripts import load_script

FILE = Path(__file__).parents[1] / "benchmarks" / "hippocampus.py"


@pytest.fixture(scope="module")
def shifts() -> ModuleType:
    return load_script(FILE)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_thick_slices_leave_a_ramp_as_it_is_and_smear_a_thin_line(shifts: ModuleType, random) -> None:
    ramp = np.linspace(0, 1, 12)[:, None, None] * np.ones((1, 4, 5))
    np.testing.assert_allclose(shifts.thick_slices(ramp, random)[1:-1], ramp[1:-1], atol=1e-12)
    line = np.zeros((12, 4, 5))
    line[4] = 1  # a slice that is kept: itself a third, and less towards its neighbours at 1 and 7
    smeared = shifts.thick_slices(line, random)[:, 0, 0]
    np.testing.assert_allclose(smeared[1:8], np.array([0, 1, 2, 3, 2, 1, 0]) / 9)


def test_a_bias_field_is_a_factor_between_its_ends_and_one_in_the_middle(shifts: ModuleType, random) -> None:
    factors = shifts.bias_field(np.ones((5, 7, 9)), random)
    assert factors[2, 3, 4] == pytest.approx(1)
    corners = factors[:: factors.shape[0] - 1, :: factors.shape[1] - 1, :: factors.shape[2] - 1]
    assert corners.max() == pytest.approx(np.exp(0.5)) == 1 / corners.min()


def test_gamma_and_inversion_keep_black_and_white(shifts: ModuleType, random) -> None:
    ends = np.array([[[0.0, 1.0]]])
    np.testing.assert_array_equal(shifts.gamma(ends, random), ends)
    np.testing.assert_array_equal(shifts.inversion(ends, random), 1 - ends)


def test_noise_where_there_is_no_signal_has_the_mean_of_a_rayleigh_distribution(shifts: ModuleType, random) -> None:
    of_nothing = shifts.noise(np.zeros((30, 30, 30)), random)
    assert of_nothing.mean() == pytest.approx(0.08 * np.sqrt(np.pi / 2), rel=0.02)


def test_a_case_is_always_shifted_alike_and_another_one_otherwise(shifts: ModuleType) -> None:
    image = np.random.default_rng(1).random((6, 7, 8))
    together = shifts.SHIFTS["together"]
    first, again, other = (shifts.shifted(image, together, case) for case in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_study_predicts_home_and_every_shift_of_the_test_cases_without_mirroring(
    shifts: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    for folder in ("images", "labels", "unlabelled"):
        (data / folder).mkdir(parents=True)
    work.mkdir()
    volume = sitk.GetImageFromArray(np.arange(216, dtype=np.float32).reshape(6, 6, 6))
    for name in ("images/a", "images/b", "images/c", "labels/a", "labels/b", "labels/c", "unlabelled/d"):
        sitk.WriteImage(volume, str(data / f"{name}.nii.gz"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setattr(shifts, "NUM_TEST", 1)
    shifts.prepare(data, work)
    study = yaml.safe_load((work / "hippocampus_domains.yaml").read_text())
    assert study["mirroring"] is False
    assert [domain["name"] for domain in study["domains"]] == ["home", *shifts.SHIFTS]
    orders = json.loads((work / "hippocampus_splits.json").read_text())
    tested = orders["in_domain_test"]
    for domain in study["domains"]:
        assert [file.name for file in (work / domain["images"]).iterdir()] == [f"{tested[0]}_0000.nii.gz"]
    for order in orders["seeds"].values():
        assert sorted([*order["train_order"], *tested]) == ["a", "b", "c"]
