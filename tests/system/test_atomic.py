"""Files that are there whole or not at all."""

import os
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.system import atomic
from nnunet_diffusion_ensemble.system.atomic import whole_file, write_text


def test_until_the_end_of_writing_the_old_content_stands(tmp_path: Path) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")
    with whole_file(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_content_stands_and_no_other_file(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")
    with pytest.raises(error), whole_file(file) as temporary:
        temporary.write_text("ne")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "plans.json.partial").write_text("half of something long")
    write_text(tmp_path / "plans.json", "new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"plans.json": "new\n"}


def test_a_power_failure_finds_the_content_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name}")
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell which file a descriptor stands for")
    write_text(tmp_path / "plans.json", "new")
    assert steps == ["flush plans.json.partial", "rename plans.json.partial", f"flush {tmp_path.name}"]
