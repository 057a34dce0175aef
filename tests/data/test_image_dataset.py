"""The pool of labelled and unlabelled images, by itself and in nnU-Net's data loader."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.data.image_dataset import ImageDataset
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset

SHAPE = (2, 3, 12, 10)
# A row outside the nonzero region, two of background, and one each of a label and of the ignore label.
SEGMENTATION_ROWS = np.array([-1, 0, 0, 3, 255, 0, 0, 0, 0, 0, 0, -1], dtype=np.int16)
MASK_ROWS = np.array([-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1])
CLASS_LOCATIONS = {3: np.array([[0, 0, 3, 0]])}


def as_segmentation(rows: np.ndarray) -> np.ndarray:
    return np.broadcast_to(rows[None, None, :, None], (1, *SHAPE[1:])).copy()


def save_cases(folder: Path, values: dict[str, float], dataset_class: type, rows: np.ndarray) -> str:
    """Saves a constant image for each case, with the same segmentation."""
    folder.mkdir(exist_ok=True)
    layout = {"chunks": SHAPE, "blocks": SHAPE, "chunks_seg": (1, *SHAPE[1:]), "blocks_seg": (1, *SHAPE[1:])}
    for case, value in values.items():
        dataset_class.save_case(
            np.full(SHAPE, value, dtype=np.float32),
            as_segmentation(rows),
            {"class_locations": CLASS_LOCATIONS, "spacing": [1.0, 1.0, 1.0]},
            str(folder / case),
            **(layout if dataset_class is nnUNetDatasetBlosc2 else {}),
        )
    return str(folder)


@pytest.fixture(params=[nnUNetDatasetBlosc2, nnUNetDatasetNumpy])
def pool(request, tmp_path) -> ImageDataset:
    labelled = save_cases(tmp_path / "2d", {"m": 1.0, "z": 2.0}, request.param, SEGMENTATION_ROWS)
    unlabelled = save_cases(tmp_path / "2d_unlabelled", {"a": 3.0, "n": 4.0}, nnUNetDatasetBlosc2, MASK_ROWS)
    return ImageDataset(labelled, ["z", "m"], UnlabelledDataset(unlabelled), ["n", "a"])


def test_the_pool_holds_labelled_and_unlabelled_cases_in_order(pool):
    assert pool.identifiers.tolist() == ["a", "m", "n", "z"]


@pytest.mark.parametrize(("case", "value"), [("m", 1.0), ("z", 2.0), ("a", 3.0), ("n", 4.0)])
def test_each_image_comes_from_its_own_folder(pool, case, value):
    data, *_ = pool.load_case(case)
    assert np.array_equal(data[:], np.full(SHAPE, value))


@pytest.mark.parametrize("case", ["m", "a"])
def test_labels_become_background_and_the_outside_stays(pool, case):
    _, mask, previous_stage, _ = pool.load_case(case)
    assert mask.shape == (1, *SHAPE[1:])
    assert np.array_equal(mask[:], as_segmentation(MASK_ROWS))
    assert previous_stage is None


def test_a_part_of_the_mask_is_the_same_as_that_part_of_the_whole(pool):
    _, mask, _, _ = pool.load_case("m")
    assert np.array_equal(mask[:, 1:, 2:5, ::3], mask[:][:, 1:, 2:5, ::3])


def test_class_locations_are_withheld(pool):
    *_, properties = pool.load_case("m")
    assert properties == {"class_locations": {}, "spacing": [1.0, 1.0, 1.0]}


def test_a_pool_survives_the_way_to_a_worker_process(pool):
    data, *_ = pickle.loads(pickle.dumps(pool)).load_case("n")
    assert np.array_equal(data[:], np.full(SHAPE, 4.0))


@pytest.mark.parametrize("patch_size", [(8, 8), (24, 6), (2, 8, 8), (5, 16, 16)])
def test_nnunets_data_loader_yields_batches_of_all_images_without_labels(pool, patch_size):
    np.random.seed(0)
    labels = LabelManager({"background": 0, "tumour": 3, "ignore": 4}, None)
    loader = nnUNetDataLoader(pool, 8, patch_size, patch_size, labels, oversample_foreground_percent=0.0)
    loader.has_ignore = False
    seen, labels_seen = set(), set()
    for _ in range(8):
        batch = next(loader)
        assert batch["data"].shape == (8, 2, *patch_size)
        assert batch["target"].shape == (8, 1, *patch_size)
        seen.update(batch["keys"])
        labels_seen.update(batch["target"].unique().tolist())
    assert seen == {"a", "m", "n", "z"}
    assert labels_seen == {-1, 0}


def test_the_same_case_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice are: a"):
        ImageDataset(str(tmp_path), ["a", "b"], UnlabelledDataset(tmp_path), ["a"])


def test_unlabelled_images_alone_make_a_pool(tmp_path):
    unlabelled = save_cases(tmp_path / "2d_unlabelled", {"a": 3.0}, nnUNetDatasetBlosc2, MASK_ROWS)
    pool = ImageDataset(str(tmp_path / "missing"), [], UnlabelledDataset(unlabelled), ["a"])
    assert np.array_equal(pool.load_case("a")[0][:], np.full(SHAPE, 3.0))


def test_an_unknown_case_is_refused(tmp_path):
    with pytest.raises(KeyError, match=f"x is not in {tmp_path}"):
        ImageDataset(str(tmp_path), [], UnlabelledDataset(tmp_path), []).load_case("x")
