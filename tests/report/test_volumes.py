"""The section on volumes: units, and tables and figures of the right trainings."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_data import Made, make_results

from nnunet_diffusion_ensemble.report.figures.bland_altman import shown_unit
from nnunet_diffusion_ensemble.report.view import ReportOptions, choose
from nnunet_diffusion_ensemble.report.volumes import volumes_section

MADE = Made(models=("A",), with_timesteps=(), labelled_cases=(None,), num_cases=3, has_images=False)


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda figure, stream, **_: stream.write(b"picture"))


@pytest.mark.parametrize(
    ("unit", "axes", "shown"),
    [("mm", 2, ("mm²", 1)), ("mm", 3, ("ml", 0.001)), ("px", 2, ("pixels", 1)), ("px", 3, ("voxels", 1))],
)
def test_volumes_are_told_in_their_unit(unit: str, axes: int, shown: tuple[str, float]) -> None:
    assert shown_unit(unit, axes) == shown


def test_the_table_has_each_training_and_the_figures_the_first_seed(tmp_path: Path) -> None:
    results = make_results(tmp_path, MADE)
    rows = [
        ("A", None, seed, domain, f"{domain}_{case}", "lung", 3, 1000.0 * case, 1000.0 * case + 100 * (seed + 1))
        for seed in (0, 1)
        for domain in ("Home", "Away")
        for case in range(3)
    ]
    volumes = pd.DataFrame(rows, columns=list(results.volumes.columns)).astype({"labelled_cases": "Int64"})
    section = volumes_section(choose(replace(results, volumes=volumes), ReportOptions()))
    assert section is not None
    (table,) = section.tables
    assert table.shown["Unit"].tolist() == ["ml"] * 4
    assert table.raw["bias"].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])  # 100 and 200 mm3
    assert [picture.name for picture in section.pictures] == ["bland_altman_lung_Home", "bland_altman_lung_Away"]
    assert section.pictures[0].alt.endswith("in ml: A 0.1 (0.1 to 0.1)")


def test_results_without_volumes_have_no_section(tmp_path: Path) -> None:
    assert volumes_section(choose(make_results(tmp_path, MADE), ReportOptions())) is None
