"""Preprocessing of unlabelled images, measured against nnU-Net's own preprocessing of labelled ones."""

import json
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from unlabelled_data import GREY_PLANS, NAME, RESAMPLING, VOLUME_PLANS, grey_image, write_plans, write_volume

from nnunet_diffusion_ensemble.data.preprocessing_job import unlabelled_folder
from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled


def preprocess(root: Path, num_processes: int = 0) -> Path:
    plans = json.loads((root / "nnUNet_preprocessed" / NAME / "Plans.json").read_text())
    return preprocess_unlabelled(1, next(iter(plans["configurations"])), "Plans", num_processes, False)


def stock_preprocessing(root: Path, case: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """What nnU-Net makes of a labelled case."""
    raw, preprocessed = root / "nnUNet_raw" / NAME, root / "nnUNet_preprocessed" / NAME
    plans = PlansManager(str(preprocessed / "Plans.json"))
    configuration = plans.get_configuration(plans.available_configurations[0])
    images = sorted(map(str, (raw / "imagesTr").glob(f"{case}_*")))
    label = str(next((raw / "labelsTr").glob(f"{case}.*")))
    return DefaultPreprocessor(verbose=False).run_case(
        images, label, plans, configuration, str(preprocessed / "dataset.json")
    )


def load(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray, dict]:
    data, mask, _, properties = nnUNetDatasetBlosc2(str(folder)).load_case(case)
    return data[:], mask[:], properties


def cases_in(folder: Path) -> list[str]:
    """Cases of which every file is there; nothing else may be."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "in_progress")
    cases = [name.removesuffix(".pkl") for name in names if name.endswith(".pkl")]
    assert names == sorted(case + ending for case in cases for ending in (".b2nd", "_seg.b2nd", ".pkl"))
    return cases


def write_times(folder: Path, case: str) -> list[int]:
    return [(folder / (case + ending)).stat().st_mtime_ns for ending in (".b2nd", "_seg.b2nd", ".pkl")]


def raw_file(root: Path, name: str) -> Path:
    return root / "nnUNet_raw" / NAME / "imagesUn" / name


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("dataset", ["grey", "volumes"])
def test_an_image_is_preprocessed_as_if_it_were_labelled(dataset, request):
    root = request.getfixturevalue(dataset)
    data, mask, properties = load(preprocess(root), "a")
    expected_data, expected_segmentation, expected_properties = stock_preprocessing(root, "twin")

    assert expected_segmentation.max() == 1 and expected_segmentation.min() == -1
    np.testing.assert_array_equal(data, expected_data)
    np.testing.assert_array_equal(mask, np.minimum(expected_segmentation, 0))
    assert data.dtype == np.float32 and mask.dtype == np.int16
    for key in ("spacing", "bbox_used_for_cropping", "shape_after_cropping_and_before_resampling"):
        assert properties[key] == expected_properties[key]


def test_no_labels_are_invented(grey):
    _, mask, properties = load(preprocess(grey), "b")
    assert set(np.unique(mask)) == {-1, 0}
    assert "class_locations" not in properties


def test_the_cases_lie_where_nnunets_preprocessing_does_not_delete_them(grey):
    preprocessed = grey / "nnUNet_preprocessed" / NAME
    assert preprocess(grey) == unlabelled_folder(preprocessed, "Plans_2d") == preprocessed / "Plans_2d_unlabelled"


@pytest.mark.slow
def test_two_workers_do_what_one_process_does(grey):
    folder = preprocess(grey, num_processes=2)
    expected_data, _, _ = stock_preprocessing(grey, "twin")
    assert cases_in(folder) == ["a", "b", "c"]
    np.testing.assert_array_equal(load(folder, "a")[0], expected_data)
    assert not (folder / "in_progress").exists()


def test_a_second_run_finds_the_cases_again(grey):
    folder = preprocess(grey)
    times = {case: write_times(folder, case) for case in "abc"}
    preprocess(grey)
    assert {case: write_times(folder, case) for case in cases_in(folder)} == times


def test_a_changed_image_is_preprocessed_again_and_no_other(grey):
    folder = preprocess(grey)
    times = write_times(folder, "b")
    imageio.imwrite(raw_file(grey, "c_0000.png"), grey_image(0))
    preprocess(grey)
    np.testing.assert_array_equal(load(folder, "c")[0], load(folder, "a")[0])
    assert write_times(folder, "b") == times


def test_a_new_image_is_added_and_a_removed_one_removed(grey):
    folder = preprocess(grey)
    raw_file(grey, "b_0000.png").rename(raw_file(grey, "d_0000.png"))
    preprocess(grey)
    assert cases_in(folder) == ["a", "c", "d"]


def break_off_between_image_and_properties(folder: Path) -> None:
    (folder / "a.pkl").unlink()
    (folder / "in_progress").mkdir()
    (folder / "a.b2nd").replace(folder / "in_progress" / "a.b2nd")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "broken off": break_off_between_image_and_properties,
    "no properties": lambda folder: (folder / "a.pkl").unlink(),
    "no mask": lambda folder: (folder / "a_seg.b2nd").unlink(),
    "half an image": lambda folder: truncate(folder / "a.b2nd"),
    "half of the properties": lambda folder: truncate(folder / "a.pkl"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_half_written_case_is_preprocessed_again_and_no_other(grey, damage):
    folder = preprocess(grey)
    data, times = load(folder, "a")[0], write_times(folder, "b")
    DAMAGES[damage](folder)
    preprocess(grey)
    np.testing.assert_array_equal(load(folder, "a")[0], data)
    assert cases_in(folder) == ["a", "b", "c"] and not (folder / "in_progress").exists()
    assert write_times(folder, "b") == times


def with_configuration(**changes: object) -> dict:
    return {**GREY_PLANS, "configurations": {"2d": {**GREY_PLANS["configurations"]["2d"], **changes}}}


@pytest.mark.parametrize(
    "plans",
    [
        with_configuration(spacing=[1.0, 1.0]),
        with_configuration(normalization_schemes=["RescaleTo01Normalization"]),
        with_configuration(use_mask_for_norm=[False]),
        with_configuration(resampling_fn_data_kwargs={**RESAMPLING["resampling_fn_data_kwargs"], "order": 1}),
        {**GREY_PLANS, "transpose_forward": [0, 2, 1]},
    ],
)
def test_other_plans_mean_preprocessing_again(grey, plans):
    preprocess(grey)
    write_plans(grey, plans)
    np.testing.assert_array_equal(load(preprocess(grey), "a")[0], stock_preprocessing(grey, "twin")[0])


def test_another_patch_size_leaves_preprocessed_images_alone(grey):
    folder = preprocess(grey)
    times = write_times(folder, "a")
    write_plans(grey, with_configuration(patch_size=[24, 24]))
    preprocess(grey)
    assert write_times(folder, "a") == times


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("b_0000.png", truncate, r"b_0000\.png cannot be read \(.*runcated"),
        ("b_0000.png", lambda path: path.write_bytes(b""), r"b_0000\.png cannot be read"),
        (
            "b_0000.png",
            lambda path: imageio.imwrite(path, np.zeros((8, 8, 3), np.uint8)),
            r"b_0000\.png holds 3 channel\(s\), dataset\.json has 1",
        ),
    ],
)
def test_a_bad_image_is_named_and_the_others_are_preprocessed(grey, name, spoil, message):
    spoil(raw_file(grey, name))
    with pytest.raises(ValueError, match=message) as error:
        preprocess(grey)
    assert "a_0000" not in str(error.value) and "c_0000" not in str(error.value)
    assert cases_in(grey / "nnUNet_preprocessed" / NAME / "Plans_2d_unlabelled") == ["a", "c"]


def test_all_bad_images_are_listed_at_once_and_only_they_are_tried_again(grey):
    truncate(raw_file(grey, "a_0000.png"))
    truncate(raw_file(grey, "c_0000.png"))
    with pytest.raises(ValueError, match=r"(?s)a_0000\.png cannot.*c_0000\.png cannot"):
        preprocess(grey)
    folder = grey / "nnUNet_preprocessed" / NAME / "Plans_2d_unlabelled"
    times = write_times(folder, "b")
    for case in "ac":
        imageio.imwrite(raw_file(grey, f"{case}_0000.png"), grey_image(7))
    assert cases_in(preprocess(grey)) == ["a", "b", "c"]
    assert write_times(folder, "b") == times


def test_of_two_channels_the_unreadable_one_is_named(volumes):
    truncate(raw_file(volumes, "b_0001.nii.gz"))
    with pytest.raises(ValueError, match=r"b_0001\.nii\.gz cannot be read") as error:
        preprocess(volumes)
    assert "  b_0000" not in str(error.value)


def test_channels_of_different_shapes_are_an_error_that_says_so(volumes):
    write_volume(raw_file(volumes, "b_0001.nii.gz"), 0, np.ones((3, 30, 36)))
    with pytest.raises(ValueError, match=r"b_0001\.nii\.gz is of size .*, b_0000\.nii\.gz of"):
        preprocess(volumes)


def test_a_voxel_that_is_not_a_number_is_refused(volumes):
    write_plans(volumes, {**VOLUME_PLANS, "image_reader_writer": "NibabelIO"})  # SimpleITK reads 0 in its place
    values = np.ones((6, 30, 36))
    values[2, 3, 4] = np.nan
    write_volume(raw_file(volumes, "b_0001.nii.gz"), 0, values)
    with pytest.raises(ValueError, match=r"b_0001.*NaN or infinite values in 1 voxel"):
        preprocess(volumes)


def test_a_name_that_does_not_fit_stops_before_anything_is_done_or_deleted(grey):
    folder = preprocess(grey)
    times = {case: write_times(folder, case) for case in "abc"}
    raw_file(grey, "a_0000.png").unlink()
    imageio.imwrite(raw_file(grey, "d_0000.bmp"), grey_image(0))
    with pytest.raises(ValueError, match=r"d_0000\.bmp: expected a file named CASE_0000\.png"):
        preprocess(grey)
    assert {case: write_times(folder, case) for case in cases_in(folder)} == times


def test_an_unlabelled_image_named_as_a_labelled_one_is_refused(grey):
    imageio.imwrite(raw_file(grey, "twin_0000.png"), grey_image(0))
    with pytest.raises(ValueError, match="unlabelled case twin also is in imagesTr"):
        preprocess(grey)


def test_without_unlabelled_images_the_folder_is_empty(grey):
    for path in raw_file(grey, "").iterdir():
        path.unlink()
    assert cases_in(preprocess(grey)) == []
    raw_file(grey, "").rmdir()
    assert cases_in(preprocess(grey)) == []


def test_without_plans_the_remedy_is_named(grey):
    with pytest.raises(FileNotFoundError, match="nnUNetv2_plan_and_preprocess"):
        preprocess_unlabelled(NAME, "2d", "OtherPlans", 0, False)


def test_a_machine_with_preprocessed_data_alone_uses_them(grey, monkeypatch):
    folder = preprocess(grey)
    times = {case: write_times(folder, case) for case in "abc"}
    monkeypatch.delenv("nnUNet_raw")
    assert preprocess(grey) == folder
    assert {case: write_times(folder, case) for case in cases_in(folder)} == times


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_machine_with_preprocessed_data_alone_refuses_half_of_them(grey, monkeypatch, damage):
    DAMAGES[damage](preprocess(grey))
    monkeypatch.setenv("nnUNet_raw", str(grey / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="incomplete or was made with other plans"):
        preprocess(grey)


def test_a_machine_with_preprocessed_data_alone_refuses_those_of_other_plans(grey, monkeypatch):
    preprocess(grey)
    write_plans(grey, with_configuration(spacing=[1.0, 1.0]))
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(FileNotFoundError, match="incomplete or was made with other plans"):
        preprocess(grey)


def test_a_set_with_a_bad_image_counts_as_incomplete_where_the_raw_data_are_missing(grey, monkeypatch):
    truncate(raw_file(grey, "b_0000.png"))
    with pytest.raises(ValueError, match="b_0000"):
        preprocess(grey)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(FileNotFoundError, match="incomplete"):
        preprocess(grey)
