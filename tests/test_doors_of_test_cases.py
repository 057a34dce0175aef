"""Images and references of a benchmark: those that are faulty are problems with the file's name."""

import re
from pathlib import Path

import pytest
from benchmark_inputs import snapshot
from faults import IMAGE_FAULTS, LABEL_FAULTS, voxel_free
from faulty_files import FLIPPED, mask, save, stored
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_diffusion_ensemble.benchmark.domains import Expected, check_domain
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec


def make_domain(root: Path) -> DomainSpec:
    for seed, case in enumerate("ab"):
        save(root / "images" / f"{case}_0000.nii.gz", voxel_free() + seed)
        save(root / "references" / f"{case}.nii.gz", mask())
    return DomainSpec(name="D", role="target", images=root / "images", references=root / "references")


EXPECTED = Expected(
    {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}, SimpleITKIO()
)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*(("image", fault) for fault in IMAGE_FAULTS), *(("reference", fault) for fault in LABEL_FAULTS)],
)
def test_a_faulty_test_case(kind: str, fault: str, tmp_path: Path) -> None:
    domain = make_domain(tmp_path)
    spoil, message = (IMAGE_FAULTS if kind == "image" else LABEL_FAULTS)[fault]
    spoil(tmp_path / ("images/b_0000.nii.gz" if kind == "image" else "references/b.nii.gz"))
    before = snapshot(tmp_path)
    checked, (problem,) = check_domain(domain, EXPECTED)
    assert list(checked.cases) == ["a"] and problem.case == "b"
    assert re.search(message, problem.problem), problem.problem
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("unit_has_lengths", [True, False])
def test_where_lengths_mean_nothing_voxels_must_lie_in_one_place_all_the_same(
    unit_has_lengths: bool, tmp_path: Path
) -> None:
    domain = make_domain(tmp_path)
    stored(direction=FLIPPED)(tmp_path / "references/b.nii.gz")
    expected = Expected(EXPECTED.dataset_json, SimpleITKIO(), with_spacing=unit_has_lengths)
    assert list(check_domain(domain, expected)[0].cases) == ["a"]


def test_rounding_of_another_tool_is_no_other_geometry(tmp_path: Path) -> None:
    domain = make_domain(tmp_path)
    stored(spacing=(0.80004, 1.1, 2.0), origin=(-20.01, 15.0, 100.02))(tmp_path / "references/b.nii.gz")
    assert check_domain(domain, EXPECTED)[1] == []
