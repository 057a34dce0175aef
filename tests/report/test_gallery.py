"""Which cases the gallery shows, and what of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from report_data import TIMESTEPS, Made, make_results

from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.report.figures import gallery
from nnunet_diffusion_ensemble.report.figures.case_images import CaseImages, read_case
from nnunet_diffusion_ensemble.report.figures.gallery import best_median_worst, draw_case, galleries
from nnunet_diffusion_ensemble.report.view import ReportOptions, choose

FEW = Made(models=("Ensemble", "Scratch"), labelled_cases=(6,), seeds=(3, 1), num_cases=4)


@pytest.mark.parametrize(
    ("values", "higher_is_better", "expected"),
    [
        ({"a": 0.9, "b": 0.5, "c": 0.7}, True, {"best": "a", "median": "c", "worst": "b"}),
        ({"a": 0.9, "b": 0.5, "c": 0.7}, False, {"best": "b", "median": "c", "worst": "a"}),
        ({"a": 4, "b": 1, "c": 3, "d": 2}, True, {"best": "a", "median": "d", "worst": "b"}),
        ({"a": 0.9, "b": 0.5}, True, {"best": "a", "worst": "b"}),
        ({"b": 0.5}, True, {"worst": "b"}),
        ({"c": 1, "a": 1, "b": 1}, True, {"best": "c", "median": "b", "worst": "a"}),
    ],
)
def test_best_median_and_worst_each_once(
    values: dict[str, float], higher_is_better: bool, expected: dict[str, str]
) -> None:
    chosen = best_median_worst(pd.Series(values), higher_is_better)
    assert list(chosen.items()) == list(expected.items())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[CaseImages]:
    """The images that would have been drawn."""
    seen: list[CaseImages] = []
    monkeypatch.setattr(gallery, "draw_case", seen.append)
    monkeypatch.setattr(gallery, "picture", lambda figure, *texts: texts)
    return seen


def test_every_domain_and_model_shows_cases_of_the_first_seed_by_their_values(
    tmp_path: Path, undrawn: list[CaseImages]
) -> None:
    view = choose(make_results(tmp_path, FEW), ReportOptions())
    groups = list(galleries(view))
    names = [(group.domain, group.model, group.seed, group.num_cases) for group in groups]
    assert names == [(domain, model, 1, 4) for domain in ("Home", "Away") for model in ("Ensemble", "Scratch")]
    own = view.values
    own = own[(own["model"] == "Scratch") & (own["domain"] == "Away") & (own["seed"] == 1)].set_index("case")["value"]
    shown = {case.which: case for case in groups[-1].cases}
    assert (shown["best"].case, shown["worst"].case) == (own.idxmax(), own.idxmin())
    assert shown["worst"].value == own.min()
    assert len(undrawn) == 12


def test_a_vanished_file_is_told_and_the_others_are_shown(tmp_path: Path, undrawn: list[CaseImages]) -> None:
    results = make_results(tmp_path, FEW)
    for file in results.spec.domains[1].references.iterdir():
        file.unlink()
    groups = {group.domain: group for group in galleries(choose(results, ReportOptions()))}
    assert all(case.picture for case in groups["Home"].cases)
    assert all(case.picture is None and "labels" in str(case.problem) for case in groups["Away"].cases)
    assert str(groups["Away"].cases[0].problem).endswith(f"{groups['Away'].cases[0].case}.png is missing")


def read_first(folder: Path, made: Made, labels: tuple[str, ...] = ("lung",)) -> CaseImages:
    results = make_results(folder, made)
    model, domain = results.spec.models[0], results.spec.domains[0]
    return read_case(domain, results.folder.prediction(model, min(model.seeds), domain.name), "Home_000", labels)


def test_a_picture_comes_with_reference_prediction_timesteps_and_entropy(tmp_path: Path) -> None:
    images = read_first(tmp_path, FEW)
    assert images.image.shape == (40, 48)
    assert (np.roll(images.reference["lung"], 2, axis=1) == images.prediction["lung"]).all()
    assert list(images.timesteps) == list(TIMESTEPS)
    assert (np.roll(images.prediction["lung"], 3, axis=0) == images.timesteps[800]["lung"]).all()
    assert images.entropy is not None
    assert ((images.entropy == 1) == (images.reference["lung"] != images.prediction["lung"])).all()
    assert (images.aspect, images.cut) == (1, None)


def test_a_region_is_where_any_of_its_labels_is(tmp_path: Path) -> None:
    images = read_first(tmp_path, replace(FEW, labels={"whole": [1, 2], "core": 2}), ("whole", "core"))
    whole, core = images.reference["whole"], images.reference["core"]
    assert core.any()
    assert (whole & core == core).all()
    assert whole.sum() > core.sum()


def test_of_a_volume_the_slice_with_the_largest_reference_is_shown(tmp_path: Path) -> None:
    images = read_first(tmp_path, replace(FEW, ending=".nii.gz"))
    assert images.image.shape == (40, 48)
    assert images.cut == "axial slice 3 of 5"
    assert images.aspect == 1.5  # rows are 1.5 mm apart, columns 1 mm
    assert images.reference["lung"][:, 24:].any()  # which the slice after it is without


def test_a_volume_is_cut_across_its_thickest_axis_with_the_head_above(tmp_path: Path) -> None:
    volume = np.zeros((6, 4, 8), np.uint8)  # from the feet up, from front to back, from right to left
    volume[4, 2, 3] = 1
    volume[:2, 1, 3] = 1
    for name in ("images/a_0000", "labels/a", "prediction/a"):
        (tmp_path / name).parent.mkdir()
        image = sitk.GetImageFromArray(volume)
        image.SetSpacing((1, 5, 2))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    described = {"labels": {"background": 0, "lung": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "prediction/dataset.json").write_text(json.dumps(described))
    domain = DomainSpec(name="D", role="source", images=tmp_path / "images", references=tmp_path / "labels")
    images = read_case(domain, tmp_path / "prediction", "a", ("lung",))
    assert images.cut == "coronal slice 2 of 4"
    assert images.aspect == 2
    assert np.argwhere(images.reference["lung"]).tolist() == [[4, 3], [5, 3]]  # the feet are the last rows


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("runs/Ensemble_n006_seed1/Home/prediction/Home_000.png", None, r"Home_000\.png is missing"),
        ("runs/Ensemble_n006_seed1/Home/prediction/Home_000.png", b"broken", r"Home_000\.png cannot be read"),
        ("runs/Ensemble_n006_seed1/Home/prediction/dataset.json", None, r"dataset\.json is missing"),
        ("runs/Ensemble_n006_seed1/Home/prediction/dataset.json", b"{}", "does not describe the labels lung"),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(tmp_path: Path, file: str, content: Any, message: str) -> None:
    results = make_results(tmp_path, FEW)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    prediction = results.folder.prediction(results.spec.models[0], 1, "Home")
    with pytest.raises(ValueError, match=message):
        read_case(results.spec.domains[0], prediction, "Home_000", ("lung",))


def test_a_map_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    results = make_results(tmp_path, FEW)
    domain = results.spec.domains[0]
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(domain.references / "Home_000.png"))
    with pytest.raises(ValueError, match=r"Home_000\.png is of size 4 x 5, the image of 40 x 48"):
        read_case(domain, results.folder.prediction(results.spec.models[0], 1, "Home"), "Home_000", ("lung",))


def test_only_what_is_there_is_drawn_and_contours_do_not_widen_the_view() -> None:
    mask = np.zeros((20, 30), bool)
    mask[:5, 3:9] = True  # up to the border
    masks = {"lung": mask}
    bare = CaseImages(np.random.default_rng(0).random((20, 30)), masks, {"lung": ~mask & False})
    full = replace(bare, timesteps={1: masks, 50: masks}, entropy=mask.astype(float))
    for images, expected in (
        (bare, ["Reference and prediction"]),
        (full, ["Reference and prediction", "Single timesteps", "Uncertainty (entropy)"]),
    ):
        axes = draw_case(images).axes
        assert [one.get_title(loc="left") for one in axes] == expected
        assert all(one.get_xlim() == (-0.5, 29.5) and one.get_ylim() == (19.5, -0.5) for one in axes)
