"""Test cases of a domain: which are good, and what is wrong with each other one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnunet_diffusion_ensemble.benchmark.domains import Expected, Reading, check_domain
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.system.records import stamps

LABELS = {"background": 0, "lung": 1, "heart": 2, "ignore": 3}
DATASET = {"channel_names": {"0": "X-ray"}, "labels": LABELS, "file_ending": ".png"}
PICTURES = Expected(DATASET, NaturalImage2DIO())


def save(file: Path, values: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(file)


def save_case(root: Path, case: str) -> None:
    save(root / "images" / f"{case}_0000.png", np.arange(30).reshape(5, 6))
    save(root / "references" / f"{case}.png", np.arange(30).reshape(5, 6) % 4)


@pytest.fixture
def domain(tmp_path: Path) -> DomainSpec:
    for case in ("a", "b"):
        save_case(tmp_path, case)
    return DomainSpec(name="D", role="target", images=tmp_path / "images", references=tmp_path / "references")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


PROBLEMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no reference": (lambda root: (root / "references/b.png").unlink(), r"b_0000\.png has no reference .*references/b"),
    "no image": (lambda root: (root / "images/b_0000.png").unlink(), r"references/b\.png has no image .*b_0000\.png"),
    "another size": (
        lambda root: save(root / "references/b.png", np.zeros((6, 5))),
        r"the reference .*b\.png is of size 6 x 5, the image b_0000\.png of 5 x 6",
    ),
    "other values": (
        lambda root: save(root / "references/b.png", np.arange(30).reshape(5, 6) // 20 * 255),
        r"the reference .*b\.png holds the values 0, 255; allowed are 0, 1, 2, 3.*nnunet-diffusion convert",
    ),
    "many values": (
        lambda root: save(root / "references/b.png", np.arange(30).reshape(5, 6)),
        r"holds the values 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.; allowed",
    ),
    "a truncated image": (lambda root: truncate(root / "images/b_0000.png"), r"images/b_0000\.png cannot be read \("),
    "a truncated reference": (lambda root: truncate(root / "references/b.png"), r"references/b\.png cannot be read"),
    "an image of text": (lambda root: (root / "images/b_0000.png").write_text("x"), r"b_0000\.png cannot be read"),
    "colours": (
        lambda root: save(root / "images/b_0000.png", np.zeros((5, 6, 3))),
        r"b_0000\.png holds 3 channel\(s\), the models were trained on 1",
    ),
    "two channels": (
        lambda root: save(root / "images/b_0001.png", np.zeros((5, 6))),
        r"b_0000\.png, .*b_0001\.png hold 2 channel\(s\), the models were trained on 1",
    ),
    "a reference in colours": (
        lambda root: save(root / "references/b.png", np.zeros((5, 6, 3))),
        r"references/b\.png has 3 channels",
    ),
    "a channel number that is missing": (
        lambda root: (root / "images/b_0000.png").rename(root / "images/b_0001.png"),
        "numbered from _0000 without gaps",
    ),
}


def test_other_cases_than_those_named_are_no_business_of_the_domain(domain: DomainSpec, tmp_path: Path) -> None:
    truncate(tmp_path / "images" / "b_0000.png")
    save(tmp_path / "images" / "without_reference_0000.png", np.zeros((5, 6)))
    checked, problems = check_domain(domain.model_copy(update={"cases": ("a",)}), PICTURES)
    assert list(checked.cases) == ["a"]
    assert problems == []


def test_a_named_case_that_is_not_there_is_a_problem(domain: DomainSpec, tmp_path: Path) -> None:
    (tmp_path / "images" / "b_0000.png").unlink()  # its reference stays
    checked, problems = check_domain(domain.model_copy(update={"cases": ("a", "b", "c")}), PICTURES)
    assert list(checked.cases) == ["a"]
    assert {problem.case: str(problem).endswith(f"is not in {domain.images}") for problem in problems} == {
        "b": True,
        "c": True,
    }


@pytest.mark.parametrize("what", sorted(PROBLEMS))
def test_a_case_that_cannot_be_tested_is_named_and_the_other_stays(
    what: str, domain: DomainSpec, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    change, message = PROBLEMS[what]
    change(tmp_path)
    checked, (problem,) = check_domain(domain, PICTURES)
    assert list(checked.cases) == ["a"]
    assert (problem.domain, problem.case) == ("D", "b")
    assert re.search(message, problem.problem), problem.problem
    assert capfd.readouterr().out == ""  # nnU-Net's readers print


def test_an_image_without_channel_number_is_not_overlooked(domain: DomainSpec, tmp_path: Path) -> None:
    save(tmp_path / "images" / "c.png", np.zeros((5, 6)))
    checked, (problem,) = check_domain(domain, PICTURES)
    assert list(checked.cases) == ["a", "b"]
    assert problem.problem.endswith("images/c.png is not named CASE_0000.png")


def test_hidden_files_and_files_of_other_kinds_are_none_of_it(domain: DomainSpec, tmp_path: Path) -> None:
    for file in ("images/._a_0000.png", "references/._a.png", "images/notes.txt", "references/Thumbs.db"):
        (tmp_path / file).write_text("x")
    checked, problems = check_domain(domain, PICTURES)
    assert (list(checked.cases), problems) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "images").rename(root / "other"), r"There is no folder .*images"),
        (lambda root: (root / "references").rename(root / "other"), r"There is no folder .*references"),
    ],
)
def test_a_missing_folder_is_a_problem_of_the_domain(
    change: Callable, message: str, domain: DomainSpec, tmp_path: Path
) -> None:
    change(tmp_path)
    checked, (problem,) = check_domain(domain, PICTURES)
    assert not checked.cases and not problem.case
    assert re.search(message, problem.problem)


def test_an_empty_domain_says_what_its_folder_holds_instead(domain: DomainSpec, tmp_path: Path) -> None:
    for file in [*(tmp_path / "images").iterdir(), *(tmp_path / "references").iterdir()]:
        file.unlink()
    (tmp_path / "images" / "a.jpg").write_text("x")
    _, (problem,) = check_domain(domain, PICTURES)
    assert problem.problem.endswith("holds no image named CASE_0000.png; it holds a.jpg.")


# ---- patients


def with_patients(domain: DomainSpec, root: Path, text: str) -> DomainSpec:
    (root / "patients.csv").write_text(text)
    return domain.model_copy(update={"patients": root / "patients.csv"})


def test_a_case_without_table_is_its_own_patient(domain: DomainSpec, tmp_path: Path) -> None:
    checked, _ = check_domain(domain, PICTURES)
    assert [case.patient for case in checked.cases.values()] == ["a", "b"]
    table = "case,age,patient\nb,70,007\na,70,007\nz,1,NA\n"
    checked, problems = check_domain(with_patients(domain, tmp_path, table), PICTURES)
    assert [case.patient for case in checked.cases.values()] == ["007", "007"]
    assert not problems


@pytest.mark.parametrize("table", ["case,patient\na,p\n", "case,patient\na,p\nb,\n"])
def test_a_case_that_the_table_of_patients_lacks_is_named(table: str, domain: DomainSpec, tmp_path: Path) -> None:
    checked, (problem,) = check_domain(with_patients(domain, tmp_path, table), PICTURES)
    assert list(checked.cases) == ["a"] and problem.case == "b"
    assert "has no patient in" in problem.problem


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case;patient\na;p\n", "needs the columns case and patient, separated by commas; it has case;patient"),
        ("case,patient\na,p\na,q\n", "several patients of one case: a"),
        ("", "is not a table in CSV"),
    ],
)
def test_a_table_of_patients_that_is_none_is_named(
    table: str, message: str, domain: DomainSpec, tmp_path: Path
) -> None:
    checked, (problem,) = check_domain(with_patients(domain, tmp_path, table), PICTURES)
    assert not checked.cases
    assert message in problem.problem


# ---- volumes, and reading


def save_volume(file: Path, spacing: tuple[float, ...], dtype: type = np.uint8) -> None:
    volume = sitk.GetImageFromArray(np.zeros((2, 3, 4), dtype))
    volume.SetSpacing(spacing)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(volume, str(file))


@pytest.mark.parametrize(
    ("spacing", "with_spacing", "is_good"),
    [
        ((1.0, 1.0, 2.0), True, True),
        ((1.0005, 1.0, 2.0), True, True),  # rounded by another tool
        ((1.0, 1.0, 2.5), True, False),
        ((1.0, 1.0, 2.5), False, True),  # it has no meaning there
    ],
)
def test_another_spacing_is_named_where_it_has_a_meaning(
    spacing: tuple, with_spacing: bool, is_good: bool, tmp_path: Path
) -> None:
    domain = DomainSpec(name="D", role="target", images=tmp_path / "images", references=tmp_path / "references")
    save_volume(tmp_path / "images" / "a_0000.nii.gz", (1.0, 1.0, 2.0))
    save_volume(tmp_path / "references" / "a.nii.gz", spacing)
    expected = Expected(DATASET | {"file_ending": ".nii.gz"}, SimpleITKIO(), with_spacing)
    checked, problems = check_domain(domain, expected)
    assert bool(checked.cases) == is_good
    if not is_good:
        file = tmp_path / "references" / "a.nii.gz"
        assert problems[0].problem == (
            f"the reference {file} has the spacing 1 x 1 x 2.5, the image a_0000.nii.gz 1 x 1 x 2"
        )


def test_regions_and_the_ignore_label_tell_the_values_that_are_allowed() -> None:
    labels = {"background": 0, "whole": [1, 2, 4], "core": [4], "ignore": 5}
    assert Expected(DATASET | {"labels": labels}, NaturalImage2DIO()).values == [0, 1, 2, 4, 5]


def test_cases_that_are_known_are_not_read_again_until_they_change(domain: DomainSpec, tmp_path: Path) -> None:
    read: list[tuple[int, int]] = []
    checked, _ = check_domain(domain, PICTURES, Reading(done=lambda done, total: read.append((done, total))))
    assert read == [(1, 2), (2, 2)]
    known = {name: stamps((*case.images, case.reference)) for name, case in checked.cases.items()}
    save(tmp_path / "references" / "b.png", np.full((5, 6), 255))
    read.clear()
    checked, problems = check_domain(domain, PICTURES, Reading(known=known, done=lambda *at: read.append(at)))
    assert read == [(1, 1)]
    assert list(checked.cases) == ["a"] and [problem.case for problem in problems] == ["b"]


@pytest.mark.slow  # starts processes
def test_two_processes_find_what_one_does(domain: DomainSpec, tmp_path: Path) -> None:
    for case in "cdefg":
        save_case(tmp_path, case)
    truncate(tmp_path / "images" / "d_0000.png")
    alone, two = (check_domain(domain, PICTURES, Reading(number)) for number in (1, 2))
    assert list(alone[0].cases) == list(two[0].cases) == list("abcefg")
    assert alone[1] == two[1]
