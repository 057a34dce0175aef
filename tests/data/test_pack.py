"""`nnunet-diffusion pack`: folders become shards, whole or not at all, and never lose a file."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.data import pack as module
from nnunet_diffusion_ensemble.data.pack import Packed, pack


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Five images, and what macOS leaves beside them."""
    return write(tmp_path / "xrays", *(f"{case}_0000.png" for case in "edcba"), "._a_0000.png")


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"content of {name}")
    return folder


def content(shard: Path) -> dict[str, str]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def test_cases_are_packed_in_the_order_of_their_names_and_stay(xrays: Path, tmp_path: Path) -> None:
    before = sorted(xrays.iterdir())
    assert pack(xrays, tmp_path / "shards", 2) == Packed(5, 3, 0)
    names = [[*content(file)] for file in sorted((tmp_path / "shards").glob("*"))]
    assert names == [["a_0000.png", "b_0000.png"], ["c_0000.png", "d_0000.png"], ["e_0000.png"]]
    assert content(tmp_path / "shards" / "xrays-000002.tar") == {"e_0000.png": "content of e_0000.png"}
    assert sorted(xrays.iterdir()) == before


def test_a_case_is_not_split_and_takes_its_spacing_along(tmp_path: Path) -> None:
    folder = write(tmp_path / "tif", "a_0000.tif", "a_0001.tif", "a.json", "b_0000.tif", "b_0001.tif", "b.json")
    pack(folder, tmp_path / "shards", 1)
    assert [*content(tmp_path / "shards" / "tif-000000.tar")] == ["a_0000.tif", "a_0001.tif", "a.json"]


def test_nobody_is_named_in_a_shard(xrays: Path, tmp_path: Path) -> None:
    pack(xrays, tmp_path, 5)
    with tarfile.open(tmp_path / "xrays-000000.tar") as tar:
        assert {(m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, "", "")}


def test_what_a_killed_run_left_is_finished(xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole: Callable = module._write

    def killed(shard: Path, files: list[Path]) -> None:
        if shard.name == "xrays-000001.tar":
            shard.with_name(f"{shard.name}.partial").write_text("half")
            raise KeyboardInterrupt
        write_whole(shard, files)

    monkeypatch.setattr(module, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        pack(xrays, tmp_path / "shards", 2)
    first = (tmp_path / "shards" / "xrays-000000.tar").stat().st_mtime_ns
    monkeypatch.undo()
    assert pack(xrays, tmp_path / "shards", 2) == Packed(5, 3, 1)
    assert (tmp_path / "shards" / "xrays-000000.tar").stat().st_mtime_ns == first
    assert len(list((tmp_path / "shards").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "cases_per_shard", "named"),
    [
        (lambda xrays: None, 3, "xrays-000000.tar\n  xrays-000001.tar\n  xrays-000002.tar"),
        (lambda xrays: write(xrays, "f_0000.png"), 2, "xrays-000002.tar"),
        (lambda xrays: os.utime(xrays / "c_0000.png", (1, 1)), 2, "xrays-000001.tar"),
        (lambda xrays: (xrays / "e_0000.png").unlink(), 2, "xrays-000002.tar"),
    ],
)
def test_shards_of_other_files_are_in_the_way(
    xrays: Path, tmp_path: Path, change: Callable, cases_per_shard: int, named: str
) -> None:
    pack(xrays, tmp_path / "shards", 2)
    before = {file: file.read_bytes() for file in (tmp_path / "shards").iterdir()}
    change(xrays)
    with pytest.raises(ValueError, match="hold other files than would be packed") as told:
        pack(xrays, tmp_path / "shards", cases_per_shard)
    assert str(told.value).split(":\n  ")[1] == named
    assert {file: file.read_bytes() for file in (tmp_path / "shards").iterdir()} == before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a_0000.png", "b.png"], r"b\.png: expected a file named CASE_0000\.png"),
        (["a_0000.png", "b_0000.jpg"], r"files that end in \.jpg and \.png; say which: --file-ending"),
        (
            ["a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png", "c_0000.png"],
            "case c has 1 .*2 as for most",
        ),
        (["a_0001.png"], "numbered from _0000 without gaps"),
        (["a_0000.png", "old.tar"], r"old\.tar: expected a file"),
        (["notes.txt"], "holds no image named CASE_0000"),
        ([], "holds no image"),
    ],
)
def test_names_are_checked_before_anything_is_written(names: list[str], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "images", *names)
    with pytest.raises(ValueError, match=message):
        pack(folder, tmp_path / "shards", 2)
    assert not (tmp_path / "shards").exists()


def test_the_ending_is_that_of_the_data_set_or_the_one_given(tmp_path: Path) -> None:
    folder = write(tmp_path / "imagesUn", "a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text('{"file_ending": ".mha"}')
    with pytest.raises(ValueError, match=r"no image named CASE_0000\.mha"):
        pack(folder, tmp_path / "shards", 2)
    assert pack(folder, tmp_path / "shards", 2, ".nii.gz") == Packed(1, 1, 0)


def test_the_folder_of_images_cannot_hold_the_shards(xrays: Path) -> None:
    with pytest.raises(ValueError, match="holds the images; name another folder"):
        pack(xrays, xrays / ".." / "xrays", 2)


def test_the_command_says_what_it_did(xrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["pack", str(xrays), "-o", str(tmp_path / "shards"), "--cases-per-shard", "4"]
    assert main(arguments) == 0
    assert "Packed 5 cases into 2 shards in" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "(2 were there)" in capsys.readouterr().out
    assert main(["pack", str(tmp_path / "missing"), "-o", str(tmp_path)]) == 2
    assert "There is no folder" in capsys.readouterr().err
