"""`predict --postprocessed` against nnU-Net's own command with the same file, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder
from predicted import CPU, read, run

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.held_out.postprocessing import write_postprocessing
from nnunet_diffusion_ensemble.postprocessing.file import postprocessing_file
from nnunet_diffusion_ensemble.prediction.model_folder import check_model, model_files, small_components
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

LABELS = {"background": 0, "lung": 1, "heart": 2}
REGIONS = {"background": 0, "whole": [1, 2], "part": [2]}
CASES = ("case_0.nii.gz", "case_1.nii.gz")
CLEANED = CPU.changed(postprocessed=True)


def test_what_is_written_is_what_nnunet_makes_of_the_prediction(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(labels=LABELS), images(shape=(2, 22, 19))
    file = write_postprocessing(model, (0,), {"lung": 1.0, "heart": 0.5})
    plain, ours = run(cases, tmp_path / "plain", model), run(cases, tmp_path / "ours", model, CLEANED)
    (function,), (arguments,) = pickle.loads(file.read_bytes())
    apply_postprocessing_to_folder(
        str(plain), str(tmp_path / "clean"), [function], [arguments],
        str(model / "plans.json"), str(model / "dataset.json"), 1,
    )  # fmt: skip
    for case in CASES:
        assert np.array_equal(read(ours / case), read(tmp_path / "clean" / case))
        assert not np.array_equal(read(ours / case), read(plain / case))
        for timestep in (plain / "timesteps").iterdir():
            of_timestep = read(ours / "timesteps" / timestep.name / case)
            assert np.array_equal(of_timestep, function(read(timestep / case), **arguments))
        for kind in ("probability/1_lung", "probability/2_heart", "entropy"):
            assert np.array_equal(read(plain / kind / case), read(ours / kind / case))


def test_a_region_is_removed_with_all_its_labels(model_folder: Callable) -> None:
    model = model_folder(labels=REGIONS)
    write_postprocessing(model, (0,), {"whole": 0.5})
    regions = {"whole": (1, 2), "part": (2,)}
    assert small_components(model, CLEANED, regions) == [((1, 2), 0.5)]
    assert small_components(model, CPU, regions) == []


def test_without_small_components_is_another_prediction(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases, output = model_folder(), images(num_cases=1), tmp_path / "out"
    write_postprocessing(model, (0,), {"organ": 1.0})
    run(cases, output, model)
    with pytest.raises(ValueError, match="postprocessed"):
        run(cases, output, model, CLEANED, continue_prediction=True)


def test_records_of_before_there_was_a_choice_still_hold() -> None:
    assert "postprocessed" not in CPU.to_json()
    assert CLEANED.to_json() == {**CPU.to_json(), "postprocessed": True}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "Learn it with `nnunet-diffusion postprocessing`, of the same folds"),
        ("{", ValueError, "is not JSON"),
        ("[]", ValueError, "must hold an object"),
        ("{}", ValueError, "smallest_share_of_largest_component"),
        ({"organ": 0.0}, ValueError, "a number above 0 and at most 1"),
        ({"organ": "small"}, ValueError, "a number above 0 and at most 1"),
        ({"liver": 0.5, "organ": 0.5}, ValueError, "names liver, which the model does not predict"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_told(
    content: dict | str | None, error: type[Exception], message: str, model_folder: Callable
) -> None:
    model = model_folder()
    file = postprocessing_file(model, CPU.folds)
    if content is not None:
        text = content if isinstance(content, str) else json.dumps({"smallest_share_of_largest_component": content})
        file.write_text(text)
    check_model(model, CPU)
    with pytest.raises(error, match=message):
        check_model(model, CLEANED)


def test_the_file_is_one_of_those_that_predictions_depend_on(model_folder: Callable) -> None:
    model = model_folder(folds=(0, 1))
    settings = PredictionSettings(folds=(0, 1), device="cpu", postprocessed=True)
    with pytest.raises(FileNotFoundError, match=r"postprocessing_folds_0_1\.json"):
        model_files(model, settings)
    write_postprocessing(model, (0, 1), {"organ": 0.5})
    assert model / "postprocessing_folds_0_1.json" in model_files(model, settings)


def test_the_command_says_what_is_missing(
    model_folder: Callable, images: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["-i", str(images(num_cases=1)), "-o", str(tmp_path / "out"), "-m", str(model_folder()), "-f", "0"]
    assert main(["predict", *arguments, "-device", "cpu", "--postprocessed"]) == 2
    assert "Learn it with `nnunet-diffusion postprocessing`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
