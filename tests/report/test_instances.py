"""The section on instances: its tables, its figure, and none where nothing is declared."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_data import Made, make_results

from nnunet_diffusion_ensemble.report.instances import instances_section
from nnunet_diffusion_ensemble.report.view import ReportOptions, choose

MADE = Made(models=("A",), with_timesteps=(), labelled_cases=(6,), seeds=(0,), num_cases=2, has_images=False)


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda figure, stream, **_: stream.write(b"picture"))


def test_it_has_sizes_with_their_unit_and_a_curve(tmp_path: Path) -> None:
    results = make_results(tmp_path, MADE)
    run = ("A", 6, 0, "Home")
    rows = [(*run, "Home_000", "lung", "reference", 3, 8.0, 0.9, 0.8), (*run, "Home_001", "lung", "candidate", 3)]
    instances = pd.DataFrame(rows, columns=list(results.instances.columns))
    instances.loc[1, "probability"] = 0.4
    volumes = pd.DataFrame(
        [(*run, f"Home_00{i}", "lung", 3, 8.0, 8.0) for i in range(2)], columns=list(results.volumes.columns)
    )
    types = {"labelled_cases": "Int64"}
    spec = results.spec.model_copy(update={"instances": ("lung",), "lesion_sizes": (10.0,)})
    results = replace(results, spec=spec, instances=instances.astype(types), volumes=volumes.astype(types))
    section = instances_section(choose(results, ReportOptions()))
    assert section is not None
    sizes, froc = section.tables
    assert sizes.shown["Size"].tolist() == ["below 10 mm³", "10 and above mm³", "all"]
    assert sizes.shown["Found"].tolist() == ["1 of 1", "0 of 0", "1 of 1"]
    assert froc.shown["at 0.125"].tolist() == ["1.000"]
    assert [picture.name for picture in section.pictures] == ["froc_lung_Home"]


def test_without_instances_there_is_no_section(tmp_path: Path) -> None:
    assert instances_section(choose(make_results(tmp_path, MADE), ReportOptions())) is None
