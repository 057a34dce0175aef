"""The demo's folder: what it refuses, what it remembers, and what its commands see of the user's environment."""

import os
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.demo.folder import DemoFolder, child_environment

SIZES = {"epochs": 2}


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(FileExistsError, match=r"not made by the demo\. Name a new or empty folder"):
        DemoFolder(tmp_path, SIZES)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="not made by the demo"):
        DemoFolder(tmp_path / "file", SIZES)


def test_a_demo_of_other_sizes_is_not_continued(tmp_path: Path) -> None:
    DemoFolder(tmp_path, SIZES)
    with pytest.raises(ValueError, match=r"options \{'epochs': 2\}, this one has \{'epochs': 3\}"):
        DemoFolder(tmp_path, {"epochs": 3})


def test_a_demo_that_was_killed_before_its_first_step_ended_can_be_continued(tmp_path: Path) -> None:
    (DemoFolder(tmp_path, SIZES).path / "xrays").mkdir()
    assert not DemoFolder(tmp_path, SIZES).is_done("data", ["xrays"])


def test_a_step_is_done_once_noted_and_while_its_result_is_there(tmp_path: Path) -> None:
    DemoFolder(tmp_path, SIZES).note_done("plan", 1.0)
    again = DemoFolder(tmp_path, SIZES)
    assert not again.is_done("plan", ["plans.json"])
    (tmp_path / "plans.json").touch()
    assert again.is_done("plan", ["plans.json"])
    assert not again.is_done("data", ["plans.json"])


def test_commands_see_the_demos_folders_and_none_of_the_users_settings_for_nnunet(tmp_path: Path) -> None:
    users = {"nnUNet_results": "/users/results", "nnUNet_wandb_enabled": "1", "HOME": "/home"}
    seen = child_environment(tmp_path, users)
    assert seen["nnUNet_results"] == str(tmp_path / "nnUNet_results")
    assert "nnUNet_wandb_enabled" not in seen
    assert seen["HOME"] == "/home"
    assert "OMP_NUM_THREADS" not in seen


def test_commands_that_run_at_once_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((8, "4"), (1, "1")):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert child_environment(tmp_path, {}, at_once=2)["OMP_NUM_THREADS"] == threads
