"""The loop with work that takes no time: what it asks for, when it stops, and that a kill changes nothing."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from self_training_data import FakeWork, Killed

from nnunet_diffusion_ensemble.self_training import selection
from nnunet_diffusion_ensemble.self_training.loop import SelfTrainingRun
from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings
from nnunet_diffusion_ensemble.self_training.table import read_image_table
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, Teacher
from nnunet_diffusion_ensemble.system.child_processes import Screen

ONE_ROUND = ["predict", "predicted", "prepare", "train Dataset101_LungsSelfTrained1 0"]
TWO_ROUNDS = [*ONE_ROUND, "predict", "predicted", "prepare", "train Dataset102_LungsSelfTrained2 0"]
CHOICES = {"student": "nnUNetTrainer"}


@pytest.fixture(autouse=True)
def quick_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; test_picture.py has it."""
    monkeypatch.setattr(selection, "write_picture", lambda *arguments: arguments[-1].write_text("drawn"))


@pytest.fixture
def make(
    hospital: Path, teacher: Teacher, labelled: LabelledCases, unlabelled_images: dict
) -> Callable[..., SelfTrainingRun]:
    """`make(rounds=2, growth=3, dies_at=None, output="run")`."""

    def made(
        growth: int = 0, dies_at: int | None = None, output: str = "run", teacher: Teacher = teacher, **settings: float
    ) -> SelfTrainingRun:
        work, screen = FakeWork(hospital / "results", growth, dies_at), Screen(io.StringIO())
        rules = SelfTrainingSettings(**settings)
        return SelfTrainingRun(hospital / output, teacher, labelled, unlabelled_images, rules, 101, work, screen)

    return made


def said(run: SelfTrainingRun) -> str:
    return run.screen.stream.getvalue()


def written(folder: Path) -> dict[str, bytes]:
    """All files under a folder, but for the lines of a log."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_round_predicts_selects_prepares_and_trains(make: Callable) -> None:
    run = make()
    assert run.run(CHOICES)
    assert run.work.calls == ONE_ROUND
    assert read_image_table(run.output / "round_1")[0] == [
        "un_0",
        "un_1",
    ]  # un_2: small; un_3: not among the best


def test_the_student_of_a_round_teaches_the_next(make: Callable) -> None:
    run = make(rounds=2)
    assert run.run(CHOICES)
    assert run.work.calls == TWO_ROUNDS
    assert f"teacher {run.work.results / 'Dataset101_LungsSelfTrained1'}" in said(run)


def test_a_dry_run_ends_with_the_picture(make: Callable, hospital: Path) -> None:
    run = make()
    assert run.run(CHOICES, dry_run=True)
    assert run.work.calls == ["predict", "predicted"]
    assert (run.output / "round_1" / "images.png").read_text() == "drawn"
    assert not (hospital / "raw" / "Dataset101_LungsSelfTrained1").exists()


def test_after_a_dry_run_nothing_is_predicted_again_and_the_rules_may_change(make: Callable) -> None:
    make().run(CHOICES, dry_run=True)
    run = make(kept_share=1.0)
    run.run(CHOICES)
    assert run.work.calls == ONE_ROUND[2:]
    assert read_image_table(run.output / "round_1")[0] == ["un_0", "un_1", "un_3"]


def test_the_picture_is_there_before_anything_is_trained(make: Callable) -> None:
    run = make(dies_at=3)
    with pytest.raises(Killed):
        run.run(CHOICES)
    assert (run.output / "round_1" / "images.png").is_file()


@pytest.mark.parametrize("dies_at", [1, 2, 4, 7])
def test_a_run_that_was_killed_anywhere_goes_on_to_the_same_files(make: Callable, hospital: Path, dies_at: int) -> None:
    killed = make(rounds=2, dies_at=dies_at)
    with pytest.raises(Killed):
        killed.run(CHOICES)
    resumed = make(rounds=2)
    assert resumed.run(CHOICES)
    raw, results = hospital / "raw", hospital / "results"
    files = [written(folder) for folder in (killed.output, raw)]
    for folder in (killed.output, raw / "Dataset101_LungsSelfTrained1", raw / "Dataset102_LungsSelfTrained2"):
        folder.rename(hospital / f"aside_{folder.name}")
    for name in ("Dataset101_LungsSelfTrained1", "Dataset102_LungsSelfTrained2"):
        (results / name).rename(hospital / f"aside_results_{name}")
    assert make(rounds=2).run(CHOICES)
    assert [written(folder) for folder in (killed.output, raw)] == files


def test_steps_that_are_done_are_not_done_again(make: Callable) -> None:
    make().run(CHOICES)
    again = make()
    assert again.run(CHOICES)
    assert again.work.calls == []


def test_more_rounds_go_on_from_the_last_one(make: Callable) -> None:
    make().run(CHOICES)
    more = make(rounds=2)
    assert more.run(CHOICES)
    assert more.work.calls == TWO_ROUNDS[4:]


def test_it_stops_with_a_sentence_when_the_areas_drift(make: Callable) -> None:
    run = make(rounds=2, growth=2)  # the mean of 20, 25, 5 and 22 is 18; of 22, 27, 5 and 24 it is 19.5: 8.3% more
    assert run.run(CHOICES)
    run = replace(make(rounds=2, growth=4, output="drifting"), number=201)
    assert not run.run(CHOICES)  # 21: a sixth more
    assert "the mean area of lung went from 18.0% to 21.0% of an image (+17%, allowed are 10%)" in said(run)
    assert run.work.calls[-1] == "predicted"


def test_it_goes_on_only_with_the_settings_that_it_trained_with(make: Callable) -> None:
    make().run(CHOICES)
    with pytest.raises(ValueError, match=r"begun with other settings \(upper 0.9, now 0.8\)"):
        make(upper=0.8).run(CHOICES)
    with pytest.raises(ValueError, match="student nnUNetTrainer, now Other"):
        make().run({"student": "Other"})


def test_no_image_accepted_is_an_error_that_names_the_table(make: Callable) -> None:
    run = make(smallest_area=1.0, largest_area=1.0, kept_share=0.25)  # 20 to 30%, and the best one has 25%
    run.run(CHOICES, dry_run=True)
    run = make(growth=-5, smallest_area=1.0, largest_area=1.0, kept_share=0.25, rounds=2)  # then 20%, 15% ...
    with pytest.raises(ValueError, match=r"No image was accepted.*round_2/images.csv"):
        replace(run, work=replace(run.work, growth=-10)).run(CHOICES)


def test_the_number_of_another_data_set_is_not_taken(make: Callable, hospital: Path) -> None:
    (hospital / "preprocessed" / "Dataset102_Others").mkdir()
    with pytest.raises(ValueError, match="Dataset102_Others has the number of Dataset102_LungsSelfTrained2"):
        make(rounds=2).run(CHOICES)
    assert not (hospital / "run").exists()


def test_the_data_set_of_another_run_is_not_replaced(make: Callable) -> None:
    make().run(CHOICES)
    with pytest.raises(ValueError, match="Choose another number"):
        make(output="second").run(CHOICES)


def test_the_state_holds_whole_steps(make: Callable) -> None:
    run = make()
    run.run(CHOICES)
    steps = json.loads((run.output / "state.json").read_text())["done"]
    assert steps == [f"round 1: {step}" for step in ("predicted", "selected", "data set", "preprocessed", "fold 0")]
