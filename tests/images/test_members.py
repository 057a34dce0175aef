"""Images of shards as files."""

from pathlib import Path

import pytest
from shards_data import write_shard

from nnunet_diffusion_ensemble.images.members import as_files
from nnunet_diffusion_ensemble.images.reading import ImageError


def test_a_file_is_itself(tmp_path: Path) -> None:
    with as_files([tmp_path / "a_0000.png"]) as files:
        assert files == [tmp_path / "a_0000.png"]


def test_members_are_files_for_as_long_as_the_block_lasts(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"x_1_0000.tif": b"0", "x_1_0001.tif": b"1", "x_1.json": b"{}"})
    with as_files([shard / "x_1_0000.tif", shard / "x_1_0001.tif"], tmp_path) as files:
        assert [file.read_bytes() for file in files] == [b"0", b"1"]
        assert files[0].with_name("x_1.json").read_bytes() == b"{}"  # where nnU-Net's reader of TIFF looks
    assert [*tmp_path.iterdir()] == [shard]


def test_errors_name_shard_and_member_and_no_temporary_file(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a_0000.png": b"0"})
    with pytest.raises(ImageError) as told, as_files([shard / "a_0000.png"], tmp_path) as files:
        raise ImageError(files, f"cannot be read ({files[0]} is odd)")
    assert told.value.short == "s.tar/a_0000.png cannot be read (a_0000.png is odd)"
    assert str(told.value) == f"{shard}/a_0000.png cannot be read (a_0000.png is odd)"
