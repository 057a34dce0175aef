"""What a user may name as a denoiser."""

from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.denoiser import source as denoiser_source
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file, names_library, source_for_plans


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships the denoisers `chest` and `head`."""
    folder = tmp_path / "denoisers"
    folder.mkdir()
    for name in ("head", "chest"):
        (folder / f"{name}.pth").touch()
    monkeypatch.setattr(denoiser_source, "SHIPPED", folder)
    return folder


def test_a_shipped_denoiser_is_found_by_name_wherever_the_user_stands(shipped, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chest").mkdir()
    assert denoiser_file("chest") == shipped / "chest.pth"
    assert source_for_plans("chest") == "chest"


def test_a_file_is_named_in_plans_by_its_absolute_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").touch()
    assert denoiser_file("mine.pth") == tmp_path / "mine.pth"
    assert source_for_plans("mine.pth") == str(tmp_path / "mine.pth")


def test_an_unknown_name_lists_the_shipped_denoisers(shipped) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*/lungs, .* ships with the package \(chest, head\)"):
        denoiser_file("lungs")


def test_a_library_is_told_from_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name.pth").touch()
    sources = ("diffusers:google/ddpm-cat-256", "diffuser:x", "mine.pth", "odd:name.pth", "C:/mine.pth")
    assert [names_library(source) for source in sources] == [True, True, False, False, False]
