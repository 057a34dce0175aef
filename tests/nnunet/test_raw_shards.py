"""Shards in `imagesUn`: what is found in them, and what is refused, with the names of shard and member."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from shards_data import write_shard

from nnunet_diffusion_ensemble.nnunet.raw_shards import ShardError, extract, name_in_folder, read_shard
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases, refuse_labelled_names

GREY = {"channel_names": {"0": "grey"}, "file_ending": ".png"}
TWO_CHANNELS = {"channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
WHOLE = {"a_0000.png": b"first", "b_0000.png": b"second"}


def shard_of(raw: Path, *names: str, shard: str = "s.tar") -> Path:
    return write_shard(raw / "imagesUn" / shard, {name: name.encode() for name in names})


def special_member(file: Path, name: str, kind: bytes) -> None:
    with tarfile.open(file, "a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "a_0000.png"
        tar.addfile(member)


def test_members_lie_where_the_tar_file_says(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", WHOLE)
    content = shard.read_bytes()
    found = {name: content[offset : offset + size] for name, (offset, size) in read_shard(shard).items()}
    assert found == WHOLE


def test_cases_lie_loose_and_in_shards(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, "b_0000.nii.gz", "b_0001.nii.gz", "a_0001.nii.gz", "a_0000.nii.gz")
    (tmp_path / "imagesUn" / "c_0000.nii.gz").touch()
    (tmp_path / "imagesUn" / "c_0001.nii.gz").touch()
    cases = find_unlabelled_cases(tmp_path, TWO_CHANNELS)
    assert len(cases) == 3 and sorted(cases.names) == ["a", "b", "c"]
    folder = tmp_path / "imagesUn"
    assert dict(cases.items()) == {
        "a": [shard / "a_0000.nii.gz", shard / "a_0001.nii.gz"],
        "b": [shard / "b_0000.nii.gz", shard / "b_0001.nii.gz"],
        "c": [folder / "c_0000.nii.gz", folder / "c_0001.nii.gz"],
    }


def test_what_tar_makes_of_a_whole_folder_is_a_shard(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for name in ("a_0000.png", "._a_0000.png", ".DS_Store"):
        (loose / name).write_text(name)
    (tmp_path / "imagesUn").mkdir()
    with tarfile.open(tmp_path / "imagesUn" / "s.tar", "w") as tar:
        tar.add(loose, ".")  # tar -C loose -cf s.tar .
    assert find_unlabelled_cases(tmp_path, GREY).names.tolist() == ["a"]


def test_a_shard_that_is_known_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "imagesUn").mkdir()
    (tmp_path / "imagesUn" / "s.tar").write_text("no tar file")
    cases = find_unlabelled_cases(tmp_path, GREY, lambda shard: np.array(["a", "b"]))
    assert cases.names.tolist() == ["a", "b"]


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in a member": (lambda s: s.write_bytes(write_shard(s, WHOLE).read_bytes()[:1300]), r"s\.tar is cut off"),
    "cut in a header": (lambda s: s.write_bytes(write_shard(s, WHOLE).read_bytes()[:1100]), r"s\.tar is cut off"),
    "cut after a member": (lambda s: s.write_bytes(write_shard(s, WHOLE).read_bytes()[:2048]), r"s\.tar is cut off"),
    "gzip": (lambda s: write_shard(s, WHOLE, "w:gz"), r"s\.tar is compressed; a shard is a plain tar file"),
    "bzip2": (lambda s: write_shard(s, WHOLE, "w:bz2"), r"s\.tar is compressed"),
    "empty": (lambda s: s.write_bytes(b""), r"s\.tar is an empty file"),
    "no tar file": (lambda s: s.write_bytes(b"image" * 999), r"s\.tar is cut off, or is no tar file"),
    "folder named so": (lambda s: s.mkdir(), r"s\.tar: expected a file"),
    "compressed": (lambda s: write_shard(s.with_name("s.tar.gz"), WHOLE, "w:gz"), r"s\.tar\.gz is compressed"),
    "another ending": (lambda s: write_shard(s, {"a_0000.jpg": b""}), r"s\.tar: a_0000\.jpg: expected a file named"),
    "no channel": (lambda s: write_shard(s, {"a.png": b""}), r"s\.tar: a\.png: expected a file named CASE_0000\.png"),
    "first channel missing": (lambda s: write_shard(s, {"a_0001.png": b""}), r"s\.tar: a_0001\.png: the channels"),
    "in a folder": (lambda s: write_shard(s, {"x/a_0000.png": b""}), r"s\.tar: x/a_0000\.png lies in a folder"),
    "twice in it": (lambda s: write_shard(write_shard(s, WHOLE), WHOLE, "a"), r"s\.tar: a_0000\.png is in it twice"),
    "a folder": (lambda s: special_member(write_shard(s, WHOLE), "x", tarfile.DIRTYPE), r"s\.tar: x is a folder"),
    "a link": (
        lambda s: special_member(write_shard(s, WHOLE), "c_0000.png", tarfile.SYMTYPE),
        r"c_0000\.png is a link",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_shard_is_told_with_its_member(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    (tmp_path / "imagesUn").mkdir()
    make(tmp_path / "imagesUn" / "s.tar")
    with pytest.raises(ValueError, match=message):
        find_unlabelled_cases(tmp_path, GREY)


def test_a_missing_channel_is_told_with_the_shard(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    for channel in range(2):
        (tmp_path / "imagesTr" / f"l_000{channel}.nii.gz").touch()
    shard_of(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    with pytest.raises(ValueError, match=r"s\.tar: b_0000\.nii\.gz: case b has 1 channel file\(s\), expected 2"):
        find_unlabelled_cases(tmp_path, TWO_CHANNELS)


def test_a_case_split_over_two_shards_is_told_with_both(tmp_path: Path) -> None:
    shard_of(tmp_path, "a_0000.nii.gz")
    shard_of(tmp_path, "a_0001.nii.gz", shard="t.tar")
    with pytest.raises(ValueError, match=r"case a is there twice: in s\.tar and in t\.tar"):
        find_unlabelled_cases(tmp_path, TWO_CHANNELS)


def test_a_case_that_is_loose_and_in_a_shard_is_told_with_both(tmp_path: Path) -> None:
    shard_of(tmp_path, "a_0000.png", "b_0000.png")
    (tmp_path / "imagesUn" / "b_0000.png").touch()
    with pytest.raises(ValueError, match=r"case b is there twice: in a file and in s\.tar; remove all but one") as told:
        find_unlabelled_cases(tmp_path, GREY)
    assert "case a" not in str(told.value)


def test_a_name_of_a_labelled_case_in_a_shard_is_refused(tmp_path: Path) -> None:
    shard_of(tmp_path, "a_0000.png", "b_0000.png")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "b_0000.png").touch()
    with pytest.raises(ValueError, match="unlabelled case b also is in imagesTr"):
        refuse_labelled_names(tmp_path, GREY, find_unlabelled_cases(tmp_path, GREY))


def test_of_many_faults_of_a_shard_the_first_are_told(tmp_path: Path) -> None:
    shard_of(tmp_path, *(f"{i:02d}.png" for i in range(13)))
    with pytest.raises(ValueError, match=r"(?s)s\.tar: 09\.png.*and 3 more in this shard") as told:
        find_unlabelled_cases(tmp_path, GREY)
    assert "10.png" not in str(told.value)


def test_members_are_extracted_with_what_belongs_to_them(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a_0000.tif": b"image", "a.json": b"spacing", "b_0000.tif": b"other"})
    assert extract([shard / "a_0000.tif"], ["a.json"], tmp_path) == [tmp_path / "a_0000.tif"]
    assert (tmp_path / "a_0000.tif").read_bytes() == b"image" and (tmp_path / "a.json").read_bytes() == b"spacing"
    assert not (tmp_path / "b_0000.tif").exists()


def test_a_member_that_has_gone_is_told(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", WHOLE)
    with pytest.raises(ShardError, match=r"s\.tar holds no c_0000\.png any more"):
        extract([shard / "c_0000.png"], [], tmp_path)


def test_images_in_shards_are_named_with_them() -> None:
    assert name_in_folder(Path("imagesUn/s.tar/a_0000.png")) == "s.tar/a_0000.png"
    assert name_in_folder(Path("imagesUn/a_0000.png")) == "a_0000.png"


def test_a_shard_of_nothing_has_no_cases(tmp_path: Path) -> None:
    (tmp_path / "imagesUn").mkdir()
    (tmp_path / "imagesUn" / "s.tar").write_bytes(io.BytesIO(bytes(10240)).getvalue())  # tar -cf s.tar -T /dev/null
    assert len(find_unlabelled_cases(tmp_path, GREY)) == 0
