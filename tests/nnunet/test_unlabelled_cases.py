"""Names in `imagesUn`: what is found, and what is refused before any image is opened."""

from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases, refuse_labelled_names

GREY_PNG = {"channel_names": {"0": "grey"}, "file_ending": ".png"}
RGB_PNG = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png"}
TWO_NIFTI = {"channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
TIFF = {"channel_names": {"0": "micrograph"}, "file_ending": ".tif"}


def make_raw_dataset(folder: Path, unlabelled: list[str], labelled: list[str]) -> Path:
    for name in [f"imagesUn/{name}" for name in unlabelled] + [f"imagesTr/{name}" for name in labelled]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def names_in(raw: Path, dataset_json: dict) -> list[str]:
    return find_unlabelled_cases(raw, dataset_json).names.tolist()


def test_a_case_has_its_channels_in_order(tmp_path):
    files = ["b_0001.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz"]
    cases = find_unlabelled_cases(make_raw_dataset(tmp_path, files, []), TWO_NIFTI)
    assert {case: [path.name for path in paths] for case, paths in cases.items()} == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }


def test_names_that_contain_dots_and_underscores_are_kept_whole(tmp_path):
    raw = make_raw_dataset(tmp_path, ["x_1.2_0001_0000.png"], [])
    assert names_in(raw, GREY_PNG) == ["x_1.2_0001"]


def test_without_an_unlabelled_folder_there_are_no_cases(tmp_path):
    assert names_in(make_raw_dataset(tmp_path, [], ["a_0000.png"]), GREY_PNG) == []


def test_hidden_files_are_skipped(tmp_path):
    raw = make_raw_dataset(tmp_path, ["a_0000.png", "._a_0000.png", ".DS_Store"], [])
    assert names_in(raw, GREY_PNG) == ["a"]


def test_one_rgb_file_is_a_case_where_labelled_cases_are_so(tmp_path):
    raw = make_raw_dataset(tmp_path, ["u_0000.png"], ["a_0000.png", "b_0000.png"])
    assert names_in(raw, RGB_PNG) == ["u"]


def test_spacing_files_of_3d_tif_images_are_no_cases(tmp_path):
    assert names_in(make_raw_dataset(tmp_path, ["a_0000.tif", "a.json"], []), TIFF) == ["a"]


@pytest.mark.parametrize(
    ("dataset_json", "labelled", "unlabelled", "message"),
    [
        (GREY_PNG, [], ["a_0000.jpg"], "a_0000.jpg: expected a file named CASE_0000.png"),
        (GREY_PNG, [], ["a_0000.PNG"], "a_0000.PNG: expected"),
        (GREY_PNG, [], ["a.png"], "a.png: expected"),
        (GREY_PNG, [], ["a_0000.png", "a.json"], "a.json: expected"),
        (GREY_PNG, [], ["a_seg_0000.png"], "a_seg_0000.png: nnU-Net keeps names ending in _seg"),
        (TWO_NIFTI, [], ["a_0001.nii.gz"], "a_0001.nii.gz: the channels of a case are numbered from _0000"),
        (TWO_NIFTI, [], ["a_0000.nii.gz", "a_0002.nii.gz"], "without gaps"),
        (TWO_NIFTI, ["l_0000.nii.gz", "l_0001.nii.gz"], ["a_0000.nii.gz"], "case a has 1 channel file.s., expected 2"),
        (GREY_PNG, ["l_0000.png"], ["a_0000.png", "a_0001.png"], "case a has 2 channel file.s., expected 1"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(tmp_path, dataset_json, labelled, unlabelled, message):
    with pytest.raises(ValueError, match=message):
        find_unlabelled_cases(make_raw_dataset(tmp_path, unlabelled, labelled), dataset_json)


def test_a_folder_among_the_images_is_refused(tmp_path):
    raw = make_raw_dataset(tmp_path, ["a_0000.png"], [])
    (raw / "imagesUn" / "hospital_b").mkdir()
    with pytest.raises(ValueError, match="hospital_b: expected a file"):
        find_unlabelled_cases(raw, GREY_PNG)


def test_all_bad_names_are_listed_at_once(tmp_path):
    raw = make_raw_dataset(tmp_path, ["a_0000.jpg", "b_0000.png", "c_0001.png"], [])
    with pytest.raises(ValueError, match=r"(?s)a_0000\.jpg.*c_0001\.png") as error:
        find_unlabelled_cases(raw, GREY_PNG)
    assert "b_0000" not in str(error.value)


def test_names_of_labelled_cases_are_refused(tmp_path):
    raw = make_raw_dataset(tmp_path, ["a_0000.png", "u_0000.png"], ["a_0000.png"])
    with pytest.raises(ValueError, match="unlabelled case a also is in imagesTr"):
        refuse_labelled_names(raw, GREY_PNG, find_unlabelled_cases(raw, GREY_PNG))


def test_labelled_cases_listed_in_dataset_json_are_known(tmp_path):
    listed = {**GREY_PNG, "dataset": {"a": {"images": ["elsewhere/a_0000.png"], "label": "elsewhere/a.png"}}}
    with pytest.raises(ValueError, match="unlabelled case a"):
        raw = make_raw_dataset(tmp_path, ["a_0000.png"], [])
        refuse_labelled_names(raw, listed, find_unlabelled_cases(raw, listed))
