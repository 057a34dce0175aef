"""Data sets by number or name, and what is said of those that are not there."""

from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.nnunet.datasets import PREPROCESSED, RAW, RESULTS, find_dataset, folder_of


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, names in ((RAW, ["Dataset001_A", "Dataset012_B"]), (PREPROCESSED, ["Dataset001_A"]), (RESULTS, [])):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
        for name in names:
            (tmp_path / variable / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [(1, "Dataset001_A"), ("001", "Dataset001_A"), ("Dataset012_B", "Dataset012_B"), (12, "Dataset012_B")],
)
def test_a_data_set_is_found_by_number_or_name(given: int | str, found: str, folders: Path) -> None:
    assert find_dataset(given) == found


def test_one_that_only_has_results_is_found(folders: Path) -> None:
    (folders / RESULTS / "Dataset003_C").mkdir()
    assert find_dataset(3) == "Dataset003_C"


@pytest.mark.parametrize(
    ("given", "there", "error", "message"),
    [
        (7, None, FileNotFoundError, "no data set 7; there is Dataset001_A, Dataset012_B. Looked in nnUNet_raw="),
        ("Dataset002_A", None, FileNotFoundError, "no data set Dataset002_A; there is Dataset001_A"),
        ("Lungs", None, ValueError, "by its number or as DatasetXXX_NAME, got Lungs"),
        (1, "Dataset001_Z", ValueError, "2 data sets have the number 1: .*Dataset001_A, .*Dataset001_Z"),
        (7, "Dataset7_Lungs", FileNotFoundError, "Rename .*Dataset7_Lungs to Dataset007_Lungs"),
        (7, "Dataset0007_Lungs", FileNotFoundError, "Rename .*Dataset0007_Lungs to Dataset007_Lungs"),
        (7, "dataset_007_Lungs", FileNotFoundError, "Rename .*dataset_007_Lungs to Dataset007_Lungs"),
        (7, "Dataset007", FileNotFoundError, "Rename .*Dataset007 to Dataset007_NAME"),
        (
            7,
            "Task007_Lungs",
            FileNotFoundError,
            "Task007_Lungs is of nnU-Net 1: .* nnUNetv2_convert_old_nnUNet_dataset",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    given: int | str, there: str | None, error: type[Exception], message: str, folders: Path
) -> None:
    if there:
        (folders / RAW / there).mkdir()
    with pytest.raises(error, match=message):
        find_dataset(given)


def test_a_number_in_the_name_of_another_is_not_that_number(folders: Path) -> None:
    (folders / RAW / "Dataset77_Lungs").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_dataset(7)
    assert "Rename" not in str(caught.value)


def test_variables_that_are_needed_and_not_set_are_all_named(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAW)
    monkeypatch.setenv(RESULTS, "")
    with pytest.raises(FileNotFoundError, match=r"(?s)nnUNet_raw is not set.*nnUNet_results is not set") as caught:
        find_dataset(1, RAW, PREPROCESSED, RESULTS)
    assert "nnUNet_preprocessed is" not in str(caught.value)
    assert find_dataset(1) == "Dataset001_A"  # preprocessed
    assert folder_of(PREPROCESSED) == folders / PREPROCESSED
