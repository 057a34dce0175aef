"""Preprocessing of shards, measured against that of loose files; a shard is redone whole or not at all."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from shards_data import move_into_shard, write_shard
from unlabelled_data import GREY_PLANS, NAME, grey_image, write_plans, write_volume

from nnunet_diffusion_ensemble.data import packed_shards
from nnunet_diffusion_ensemble.data.packed_shards import PackedShard
from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset


def preprocess(root: Path, num_processes: int = 0) -> Path:
    plans = json.loads((root / "nnUNet_preprocessed" / NAME / "Plans.json").read_text())
    return preprocess_unlabelled(1, next(iter(plans["configurations"])), "Plans", num_processes, False)


def raw_folder(root: Path) -> Path:
    return root / "nnUNet_raw" / NAME / "imagesUn"


def shard_cases(root: Path, **shards: str) -> None:
    """Moves cases into shards: `one="ab"` makes one.tar with the cases a and b."""
    for shard, cases in shards.items():
        files = [file for case in cases for file in raw_folder(root).glob(f"{case}_*")]
        move_into_shard(raw_folder(root) / f"{shard}.tar", files)


def change_image(root: Path, shard: str, name: str, content: bytes) -> None:
    file = raw_folder(root) / f"{shard}.tar"
    with tarfile.open(file) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    write_shard(file, members | {name: content})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_times(folder: Path, shard: str) -> list[int]:
    return [(folder / f"{shard}{ending}").stat().st_mtime_ns for ending in (".tar", ".npz")]


def content(folder: Path) -> dict[str, tuple]:
    dataset = UnlabelledDataset(folder)
    cases = {case: dataset.load_case(case) for case in dataset.identifiers.tolist()}
    return {case: (data[:], mask[:], properties) for case, (data, mask, _, properties) in cases.items()}


@pytest.fixture
def sharded(grey: Path) -> Path:
    """Cases a and b in one shard, c in another."""
    shard_cases(grey, one="ab", two="c")
    return grey


@pytest.mark.parametrize(("dataset", "shards"), [("grey", {"one": "ab", "two": "c"}), ("volumes", {"one": "ab"})])
def test_shards_give_exactly_what_loose_files_give(
    dataset: str, shards: dict[str, str], request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(dataset)
    loose = content(preprocess(root))
    shard_cases(root, **shards)
    folder = preprocess(root)
    assert names_in(folder) == sorted(shard + ending for shard in shards for ending in (".tar", ".npz"))
    packed = content(folder)
    assert packed.keys() == loose.keys()
    for case, (data, mask, properties) in packed.items():
        np.testing.assert_array_equal(data, loose[case][0])
        np.testing.assert_array_equal(mask, loose[case][1])
        assert (data.dtype, mask.dtype) == (np.float32, np.int16)
        record = loose[case][2].pop("unlabelled_source")
        assert record["files"][0][0].startswith(case) and repr(properties) == repr(loose[case][2])


def test_unpacked_members_are_files_as_a_loose_case_has_them(grey: Path, tmp_path: Path) -> None:
    expected = nnUNetDatasetBlosc2(str(preprocess(grey)), ["a"]).load_case("a")
    layout, values = (expected[0].chunks, expected[0].blocks), (expected[0][:], expected[1][:])
    shard_cases(grey, one="a")
    with tarfile.open(preprocess(grey) / "one.tar") as tar:
        assert tar.getnames() == ["a_seg.b2nd", "a.b2nd", "a.pkl"]
        tar.extractall(tmp_path / "unpacked", filter="data")
    image, mask, *_ = nnUNetDatasetBlosc2(str(tmp_path / "unpacked"), ["a"]).load_case("a")
    assert (image.chunks, image.blocks) == layout
    for found, wanted in zip((image, mask), values, strict=True):
        np.testing.assert_array_equal(found[:], wanted)


def test_shards_and_loose_cases_stand_side_by_side(grey: Path) -> None:
    shard_cases(grey, one="ac")
    folder = preprocess(grey)
    assert names_in(folder) == ["b.b2nd", "b.pkl", "b_seg.b2nd", "one.npz", "one.tar"]
    assert UnlabelledDataset(folder).identifiers.tolist() == ["a", "b", "c"]


@pytest.mark.slow
def test_workers_do_with_shards_what_one_process_does(sharded: Path) -> None:
    expected = content(preprocess(sharded))
    for file in preprocess(sharded).iterdir():
        file.unlink()
    for case, (data, *_) in content(preprocess(sharded, 2)).items():
        np.testing.assert_array_equal(data, expected[case][0])


def unreadable(file: Path) -> None:
    """Other bytes of the same length at the same time."""
    state = file.stat()
    file.write_bytes(b"\xff" * state.st_size)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_start_touches_no_case(sharded: Path) -> None:
    folder = preprocess(sharded)
    for file in (*raw_folder(sharded).iterdir(), *folder.glob("*.tar")):
        unreadable(file)
    assert preprocess(sharded) == folder
    assert UnlabelledDataset(folder).identifiers.tolist() == ["a", "b", "c"]


def test_a_changed_shard_is_redone_and_no_other(sharded: Path) -> None:
    folder = preprocess(sharded)
    times, before = write_times(folder, "two"), content(folder)
    change_image(sharded, "one", "b_0000.png", imageio.imwrite("<bytes>", grey_image(0), extension=".png"))
    preprocess(sharded)
    np.testing.assert_array_equal(content(folder)["b"][0], before["a"][0])
    assert write_times(folder, "two") == times


def test_a_new_shard_is_added_and_a_removed_one_removed(sharded: Path) -> None:
    folder = preprocess(sharded)
    times = write_times(folder, "one")
    shard = raw_folder(sharded) / "two.tar"
    shard.rename(shard.with_name("three.tar"))
    preprocess(sharded)
    assert names_in(folder) == ["one.npz", "one.tar", "three.npz", "three.tar"]
    assert write_times(folder, "one") == times


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def broken_off(folder: Path) -> None:
    (folder / "in_progress").mkdir()
    (folder / "two.tar").replace(folder / "in_progress" / "two.tar")
    (folder / "two.npz").unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "broken off": broken_off,
    "moved, without an index": lambda folder: (folder / "two.npz").unlink(),
    "half an index": lambda folder: truncate(folder / "two.npz"),
    "half of the cases": lambda folder: truncate(folder / "two.tar"),
    "an index alone": lambda folder: (folder / "two.tar").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_half_written_shard_is_redone_and_no_other(sharded: Path, damage: str) -> None:
    folder = preprocess(sharded)
    times, before = write_times(folder, "one"), content(folder)["c"][0]
    DAMAGES[damage](folder)
    assert "c" not in UnlabelledDataset(folder)
    preprocess(sharded)
    np.testing.assert_array_equal(content(folder)["c"][0], before)
    assert write_times(folder, "one") == times and not (folder / "in_progress").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_raw_data_half_a_shard_is_refused(sharded: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = preprocess(sharded)
    monkeypatch.delenv("nnUNet_raw")
    assert preprocess(sharded) == folder
    DAMAGES[damage](folder)
    with pytest.raises(FileNotFoundError, match="incomplete or was made with other plans"):
        preprocess(sharded)


def test_a_kill_between_two_shards_costs_the_second(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = packed_shards.images_in_shard

    def killed_at_the_second(shard: Path, file_ending: str) -> dict[str, list[Path]]:
        if shard.name == "two.tar":
            raise KeyboardInterrupt
        return images(shard, file_ending)

    monkeypatch.setattr(packed_shards, "images_in_shard", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        preprocess(sharded)
    folder = sharded / "nnUNet_preprocessed" / NAME / "Plans_2d_unlabelled"
    assert (folder / "one.npz").exists() and not (folder / "two.npz").exists()
    times = write_times(folder, "one")
    monkeypatch.undo()
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(variable, str(sharded / variable))
    assert UnlabelledDataset(preprocess(sharded)).identifiers.tolist() == ["a", "b", "c"]
    assert write_times(folder, "one") == times


def test_other_plans_mean_preprocessing_shards_again(sharded: Path) -> None:
    before = content(preprocess(sharded))["a"][0]
    configuration = {**GREY_PLANS["configurations"]["2d"], "spacing": [1.0, 1.0]}
    write_plans(sharded, {**GREY_PLANS, "configurations": {"2d": configuration}})
    assert content(preprocess(sharded))["a"][0].shape != before.shape


def test_a_bad_image_is_named_with_its_shard_which_waits_and_no_other(sharded: Path) -> None:
    change_image(sharded, "one", "b_0000.png", b"no image")
    with pytest.raises(
        ValueError, match=r"Repair or remove these in .*imagesUn:\n  one\.tar/b_0000\.png cannot"
    ) as told:
        preprocess(sharded)
    assert "a_0000" not in str(told.value) and "/tmp" not in str(told.value).split("imagesUn:")[1]
    folder = sharded / "nnUNet_preprocessed" / NAME / "Plans_2d_unlabelled"
    assert (folder / "two.npz").exists() and not (folder / "one.npz").exists()
    change_image(sharded, "one", "b_0000.png", imageio.imwrite("<bytes>", grey_image(7), extension=".png"))
    times = write_times(folder, "two")
    assert UnlabelledDataset(preprocess(sharded)).identifiers.tolist() == ["a", "b", "c"]
    assert write_times(folder, "two") == times


def test_of_two_channels_in_a_shard_the_unreadable_one_is_named(volumes: Path) -> None:
    write_volume(raw_folder(volumes) / "b_0001.nii.gz", 0, np.ones((3, 30, 36)))
    shard_cases(volumes, one="ab")
    with pytest.raises(ValueError, match=r"one\.tar/b_0001\.nii\.gz is of size .*, b_0000\.nii\.gz of"):
        preprocess(volumes)


def test_a_faulty_shard_stops_before_anything_is_done(sharded: Path) -> None:
    file = raw_folder(sharded) / "one.tar"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"one\.tar is cut off"):
        preprocess(sharded)
    assert names_in(sharded / "nnUNet_preprocessed" / NAME / "Plans_2d_unlabelled") == []


def test_a_name_in_a_new_shard_that_a_finished_one_has_is_refused(sharded: Path) -> None:
    preprocess(sharded)
    write_shard(raw_folder(sharded) / "three.tar", {"a_0000.png": b""})
    with pytest.raises(ValueError, match=r"case a is there twice: in one\.tar and in three\.tar"):
        preprocess(sharded)


def test_an_index_of_another_format_vouches_for_nothing(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = preprocess(sharded)
    assert PackedShard.read(folder / "one.npz") is not None
    monkeypatch.setattr(packed_shards, "FORMAT", 2)
    assert PackedShard.read(folder / "one.npz") is None


def test_a_shard_without_cases_is_complete(grey: Path) -> None:
    write_shard(raw_folder(grey) / "none.tar", {})
    times = write_times(preprocess(grey), "none")
    assert write_times(preprocess(grey), "none") == times
