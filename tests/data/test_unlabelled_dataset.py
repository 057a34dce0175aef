"""Loose cases and packed shards as one data set."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from shards_data import write_shard

from nnunet_diffusion_ensemble.data import unlabelled_dataset
from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
from nnunet_diffusion_ensemble.data.packed_shards import FORMAT, PackedShard
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
from nnunet_diffusion_ensemble.nnunet.raw_shards import read_shard

SHAPE = (2, 3, 12, 10)


def save(folder: Path, case: str, value: float) -> None:
    layout = {"chunks": (1, 1, 6, 5), "blocks": (1, 1, 6, 5), "chunks_seg": (1, 1, 6, 5), "blocks_seg": (1, 1, 6, 5)}
    image = value + np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    mask = np.full((1, *SHAPE[1:]), -int(value) % 2, np.int16)
    nnUNetDatasetBlosc2.save_case(image, mask, {"spacing": [value]}, str(folder / case), **layout)


def pack(folder: Path, shard: str, cases: str) -> None:
    files = [folder / (case + ending) for case in cases for ending in CASE_FILE_ENDINGS]
    file = write_shard(folder / shard, {file.name: file.read_bytes() for file in files})
    for loose in files:
        loose.unlink()
    members = read_shard(file)
    extents = np.array([[members[case + ending] for ending in CASE_FILE_ENDINGS] for case in cases])
    record = {"format": FORMAT, "written_size": file.stat().st_size, "source": [0, 0], "preprocessing": ""}
    PackedShard(file, np.array([*cases]), extents, record).write_index()


@pytest.fixture(params=["read whole", "opened in place"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnlabelledDataset:
    """Cases a to f: b and e loose, the others in two shards."""
    for value, case in enumerate("abcdef"):
        save(tmp_path, case, value)
    pack(tmp_path, "one.tar", "fa")
    pack(tmp_path, "two.tar", "dc")
    if request.param == "opened in place":
        monkeypatch.setattr(unlabelled_dataset, "READ_WHOLE_BYTES", 0)
    return UnlabelledDataset(tmp_path)


def check(dataset: UnlabelledDataset, case: str) -> None:
    image, mask, previous_stage, properties = dataset.load_case(case)
    value = "abcdef".index(case)
    assert image.shape == SHAPE and mask.shape == (1, *SHAPE[1:]) and previous_stage is None
    assert image[1, 2, 3, 4] == value + np.ravel_multi_index((1, 2, 3, 4), SHAPE)
    np.testing.assert_array_equal(image[:], value + np.arange(np.prod(SHAPE)).reshape(SHAPE))
    np.testing.assert_array_equal(mask[:], np.full((1, *SHAPE[1:]), -value % 2))
    assert properties == {"spacing": [value]}


def test_all_cases_are_listed_in_order(dataset: UnlabelledDataset) -> None:
    assert dataset.identifiers.tolist() == [*"abcdef"]


@pytest.mark.parametrize("case", "abcdef")
def test_each_case_is_what_was_saved_wherever_it_lies(dataset: UnlabelledDataset, case: str) -> None:
    check(dataset, case)


@pytest.mark.parametrize("case", ["", "aa", "g"])
def test_an_unknown_case_is_refused(dataset: UnlabelledDataset, case: str) -> None:
    assert case not in dataset
    with pytest.raises(KeyError, match=f"{case} is not in"):
        dataset.load_case(case)


def test_known_cases_are_in_it(dataset: UnlabelledDataset) -> None:
    assert all(case in dataset for case in "abcdef")


def test_it_survives_the_way_to_a_worker_process(dataset: UnlabelledDataset) -> None:
    check(pickle.loads(pickle.dumps(dataset)), "d")


def test_forked_processes_read_at_once(dataset: UnlabelledDataset) -> None:
    check(dataset, "a")  # opened here first
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(check, [(dataset, case) for case in "acdf" * 5])


def test_only_complete_cases_are_listed(tmp_path: Path) -> None:
    for value, case in enumerate("abcd"):
        save(tmp_path, case, value)
    pack(tmp_path, "one.tar", "ab")
    (tmp_path / "d.pkl").unlink()
    (tmp_path / "one.npz").unlink()
    assert UnlabelledDataset(tmp_path).identifiers.tolist() == ["c"]


def test_a_missing_folder_has_no_cases(tmp_path: Path) -> None:
    assert UnlabelledDataset.get_identifiers(str(tmp_path / "missing")) == []
