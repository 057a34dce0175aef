"""Fingerprint of unlabelled images, beside nnU-Net's own on the same images with everything labelled."""

import json
from functools import partial
from itertools import starmap
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnunet_diffusion_ensemble.data import fingerprint
from nnunet_diffusion_ensemble.data.fingerprint import (
    LabelledFingerprint,
    case_statistics,
    extract_unlabelled_fingerprint,
    has_unlabelled_fingerprint,
    intensity_properties,
)
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import UnlabelledCases


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take seconds to start; the slow tests have them."""
    monkeypatch.setattr(fingerprint, "as_they_come", lambda function, cases, num: starmap(function, cases))
    monkeypatch.setattr(fingerprint, "NUM_SAMPLES", 20_000)


def save(path: Path, array: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((0.5, 0.7, 3.0))
    sitk.WriteImage(image, str(path))
    return path


def volume(seed: int, shape: tuple[int, int, int] = (6, 10, 9)) -> np.ndarray:
    """A block of random values with a margin of zeros on every side, and a hole in the middle."""
    array = np.zeros(shape)
    inner = tuple(slice(1, n - 1) for n in shape)
    array[inner] = np.random.default_rng(seed).normal(100, 20, [n - 2 for n in shape])
    array[3, 5, 4] = 0
    return array


def extract(folder: Path, cases: dict[str, list[Path]], channels: int = 1) -> dict:
    extract_unlabelled_fingerprint(folder, SimpleITKIO, channels, UnlabelledCases(cases, {}, ".nii.gz"), 1)
    return json.loads((folder / "dataset_fingerprint.json").read_text())


def test_shapes_and_sizes_are_those_that_nnunet_finds(tmp_path: Path) -> None:
    arrays = {f"case{i}": volume(i, shape) for i, shape in enumerate([(6, 10, 9), (7, 12, 8)])}
    cases = {case: [save(tmp_path / f"{case}_0000.nii.gz", array)] for case, array in arrays.items()}
    found = extract(tmp_path / "new", cases)
    relative = []
    for i, case in enumerate(cases):
        label = save(tmp_path / f"{case}_label.nii.gz", np.ones(arrays[case].shape))
        shape, spacing, _, _, size = DatasetFingerprintExtractor.analyze_case(
            [str(cases[case][0])], str(label), SimpleITKIO
        )
        assert found["shapes_after_crop"][i] == list(shape)
        assert found["spacings"][i] == pytest.approx(list(spacing))
        relative.append(size)
    assert found["median_relative_size_after_cropping"] == pytest.approx(np.median(relative))


def test_intensities_are_those_of_the_nonzero_region_with_its_holes(tmp_path: Path) -> None:
    array = volume(0)
    found = extract(tmp_path, {"a": [save(tmp_path / "a_0000.nii.gz", array)]})
    inside = array[1:-1, 1:-1, 1:-1].astype(np.float32)
    properties = found["foreground_intensity_properties_per_channel"]["0"]
    assert properties["min"] == 0  # the hole
    assert properties["max"] == inside.max()
    assert properties["mean"] == pytest.approx(inside.mean(), abs=3 * inside.std() / np.sqrt(20_000))
    assert properties["percentile_99_5"] == pytest.approx(np.percentile(inside, 99.5), abs=1)


def test_every_image_has_the_same_share_of_the_sampled_voxels(tmp_path: Path) -> None:
    # 10 voxels of value 1, and 990 of value 3: half of the samples each.
    small, large = np.full((1, 2, 5), 1.0), np.full((10, 9, 11), 3.0)
    cases = {"s": [save(tmp_path / "s_0000.nii.gz", small)], "l": [save(tmp_path / "l_0000.nii.gz", large)]}
    properties = extract(tmp_path, cases)["foreground_intensity_properties_per_channel"]["0"]
    assert (properties["mean"], properties["std"]) == (2.0, 1.0)


def test_every_channel_has_its_own_intensities(tmp_path: Path) -> None:
    images = [save(tmp_path / f"a_{i:04d}.nii.gz", np.full((3, 4, 5), value)) for i, value in enumerate((7.0, -2.0))]
    properties = extract(tmp_path, {"a": images}, channels=2)["foreground_intensity_properties_per_channel"]
    assert [properties[str(i)]["median"] for i in (0, 1)] == [7, -2]


def test_the_seven_numbers_of_a_channel() -> None:
    assert intensity_properties(np.arange(201, dtype=np.float32)) == pytest.approx(
        {
            "mean": 100,
            "median": 100,
            "std": np.sqrt((201**2 - 1) / 12),
            "min": 0,
            "max": 200,
            "percentile_00_5": 1,
            "percentile_99_5": 199,
        }
    )


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((2, 3, 4)), r"a_0000\.mha is a blank image"),
        (np.full((2, 3, 4), np.nan), r"a_0000\.mha holds NaN or infinite values in 24 voxel"),
    ],
)
def test_an_unfit_image_is_named_and_nothing_written(array: np.ndarray, problem: str, tmp_path: Path) -> None:
    cases = {case: [save(tmp_path / f"{case}_0000.nii.gz", volume(0))] for case in "bc"}
    cases["a"] = [save(tmp_path / "a_0000.mha", array)]
    with pytest.raises(ValueError, match=f"(?s)Repair or remove these in imagesUn:.*{problem}"):
        extract(tmp_path / "new", cases)
    assert not (tmp_path / "new").exists()


def test_a_wrong_number_of_channels_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5, 3), 9, np.uint8)).save(tmp_path / "a_0000.png")
    problem = case_statistics(NaturalImage2DIO, 1, 10, "a", [tmp_path / "a_0000.png"])
    assert problem.startswith("a_0000.png holds 3 channel(s), dataset.json has 1 in channel_names (3 are colours")


def test_only_a_fingerprint_of_as_many_unlabelled_images_is_used_again(tmp_path: Path) -> None:
    has = partial(has_unlabelled_fingerprint, tmp_path)
    assert not has()
    (tmp_path / "dataset_fingerprint.json").write_text('{"spacings": [[1, 1, 1]]}')  # nnU-Net's
    assert not has(1)
    extract(tmp_path, {"a": [save(tmp_path / "a_0000.nii.gz", volume(0))]})
    assert has()
    assert has(1)
    assert not has(2)


def test_of_labelled_cases_it_is_nnunets_by_fewer_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, array = tmp_path / "Dataset001_A", volume(0)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    save(raw / "imagesTr" / "a_0000.nii.gz", array)
    save(raw / "labelsTr" / "a.nii.gz", array > 100)
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps({**content, "numTraining": 1}))
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setattr(fingerprint_extractor, variable, str(tmp_path))
    threads = SimpleNamespace(get_context=lambda method: SimpleNamespace(Pool=ThreadPool))
    monkeypatch.setattr(fingerprint_extractor, "multiprocessing", threads)
    monkeypatch.setattr(fingerprint_extractor, "maybe_convert_to_dataset_name", str)
    drawn, analyze = [], DatasetFingerprintExtractor.analyze_case
    spy = staticmethod(lambda *arguments: drawn.append(arguments[-1]) or analyze(*arguments))
    monkeypatch.setattr(DatasetFingerprintExtractor, "analyze_case", spy)
    properties = LabelledFingerprint(raw.name, 1).run()["foreground_intensity_properties_per_channel"][0]
    labelled = array[array > 100]
    assert properties["mean"] == pytest.approx(labelled.mean(), rel=0.01)
    assert properties["median"] == pytest.approx(np.median(labelled), rel=0.02)
    assert drawn == [20_000]
