"""A study of few labels: its trainings, what is done, what is left, how it is shared out and handed over."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from other_process import at_work_elsewhere

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.study.few_label import (
    LabelledDataset,
    Study,
    Training,
    add_folds,
    check_trainers,
    claimed,
    make_study,
    read_rivals,
)
from nnunet_diffusion_ensemble.study.label_orders import LabelOrders
from nnunet_diffusion_ensemble.study.timed_training import LENGTH_FILE, TimeBudget

NAME, CASES = "Dataset007_Lungs", [f"case_{i}" for i in range(6)]
ORDERS = LabelOrders({0: ("case_2", "case_0", "case_4"), 5: ("case_1", "case_2", "case_3")})


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelledDataset:
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    folder = tmp_path / "preprocessed" / NAME
    (folder / "gt_segmentations").mkdir(parents=True)
    for case in CASES:
        (folder / "gt_segmentations" / f"{case}.nii.gz").touch()
    (folder / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    (folder / "Plans.json").write_text('{"configurations": {"2d": {}}}')
    return LabelledDataset.find("7")


@pytest.fixture
def study(dataset: LabelledDataset) -> Study:
    """Two rivals, seeds 0 and 5, one and three labels."""
    add_folds(dataset, [1, 3], ORDERS)
    return make_study(dataset, "2d", read_rivals(["A", "B:Other"], "Plans"), [1, 3], ORDERS)


@pytest.fixture
def finish() -> Callable[..., None]:
    """`finish(training, (2.0, 3.0))`: trained, with epochs of so many seconds."""

    def make(training: Training, seconds: tuple[float, ...] = (1.0,), name: str = "final") -> None:
        training.folder.mkdir(parents=True, exist_ok=True)
        starts = [100.0 * i for i in range(len(seconds))]
        ends = [start + length for start, length in zip(starts, seconds, strict=True)]
        log = {"epoch_start_timestamps": [*starts, 1e6], "epoch_end_timestamps": ends}  # killed in the next epoch
        checkpoint = {"network_weights": {}, "init_args": {}, "trainer_name": training.rival.trainer, "logging": log}
        write_checkpoint(checkpoint, training.folder / f"checkpoint_{name}.pth")

    return make


def described(study: Study) -> list[tuple[Any, ...]]:
    return [(t.rival.name, t.seed, t.num_labels, t.fold) for t in study.trainings]


def test_every_rival_trains_on_the_same_folds(study: Study, dataset: LabelledDataset) -> None:
    expected = [(seed, n, fold) for (seed, n), fold in zip([(0, 1), (0, 3), (5, 1), (5, 3)], range(5, 9), strict=True)]
    assert described(study) == [(name, *rest) for name in "AB" for rest in expected]
    splits = json.loads((dataset.preprocessed / "splits_final.json").read_text())
    assert [split["train"] for split in splits[5:]] == [
        ["case_2"],
        [*ORDERS.orders[0]],
        ["case_1"],
        [*ORDERS.orders[5]],
    ]


def test_a_study_adds_its_folds_only_when_it_is_told_to(dataset: LabelledDataset) -> None:
    study = make_study(dataset, "2d", read_rivals(["A"], "Plans"), [1, 3], ORDERS)
    assert not (dataset.preprocessed / "splits_final.json").exists()
    add_folds(dataset, [1, 3], ORDERS)
    assert make_study(dataset, "2d", read_rivals(["A"], "Plans"), [1, 3], ORDERS) == study


MISTAKES = [
    (["-d", "8"], "There is no data set 8"),
    (["--trainers", "nnUNetTrainer:None"], "There are no plans"),
    (["--trainers", "nnUNetTrainr"], "finds no trainer nnUNetTrainr"),
    (["--labels", "6"], "At most: 5"),
    (["--minutes", "0"], "minutes must be a number above 0; got 0.0"),
    (["--part", "2", "--parts", "2"], "counts from 0"),
    (["--benchmark", "nowhere.yaml"], "There is no nowhere.yaml"),
    (["--hold-out", "2", "--splits", "x.json"], "Use one of them"),
    (["-device", "mps"], "device must be a device that is here: cpu"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes_end_the_command_before_anything_is_written(
    options: list[str], message: str, dataset: LabelledDataset, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    defaults = ["-d", "7", "-p", "Plans", "--trainers", "nnUNetTrainer", "--labels", "1", "-device", "cpu"]
    before = sorted(tmp_path.rglob("*"))
    assert main(["few-label", *defaults, "-o", str(tmp_path / "study"), *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_parts_share_out_all_trainings(study: Study) -> None:
    parts = [study.part(i, 3).trainings for i in range(3)]
    assert sorted(map(len, parts)) == [2, 3, 3]
    assert {training for part in parts for training in part} == set(study.trainings)


@pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_there_is_not_is_refused(study: Study, part: int, parts: int) -> None:
    with pytest.raises(ValueError, match=f"0 to --parts - 1 = {parts - 1}, got {part}"):
        study.part(part, parts)


def test_progress_counts_finished_trainings_and_their_time(study: Study, finish: Callable) -> None:
    finish(study.trainings[0], (2.0, 3.0))
    finish(study.trainings[1], (1.0,), name="best")  # before its end
    finish(study.trainings[1], (7.0,))
    finish(study.trainings[4], (50.0,), name="latest")  # of B, not at its end
    assert {name: (one.done, one.total, one.seconds) for name, one in study.progress().items()} == {
        "A": (2, 4, 12.0),
        "B": (0, 4, 0.0),
    }
    assert study.trainings[4].seconds == 50.0
    assert study.trainings[5].seconds is None


def test_time_left_is_judged_by_finished_trainings_of_the_same_trainer(study: Study, finish: Callable) -> None:
    finish(study.trainings[0], (4.0,))
    assert study.seconds_for(study.part(0, 2).to_do()) is None  # nothing known of B
    finish(study.trainings[4], (10.0,))
    finish(study.trainings[5], (20.0,))
    assert study.seconds_for(study.to_do()) == 3 * 4 + 2 * 15
    with_limit = Study(study.trainings, TimeBudget(minutes=2))
    (with_limit.trainings[4].folder / "checkpoint_final.pth").unlink()
    (with_limit.trainings[5].folder / "checkpoint_final.pth").unlink()
    assert with_limit.seconds_for(with_limit.to_do()) == 3 * 4 + 4 * 120


def test_commands_are_those_of_nnunet_and_continue_what_was_begun(study: Study, finish: Callable) -> None:
    training = study.trainings[5]
    plain = f"nnUNetv2_train {NAME} 2d 6 -tr B -p Other -device cpu"
    assert str(training.command("cpu", None)) == plain
    finish(training, name="best")
    assert str(training.command("cpu", None)) == f"{plain} --c"
    timed = f"nnunet-diffusion train {NAME} 2d 6 -tr B -p Other -device cpu --c"
    expected = f"{timed} --minutes 1.5 --clock cpu --iterations-per-epoch 250"
    assert str(training.command("cpu", TimeBudget(minutes=1.5, clock="cpu"))) == expected


def test_a_training_is_claimed_once(study: Study, finish: Callable) -> None:
    first, second, third = study.trainings[:3]
    first.folder.mkdir(parents=True)
    with at_work_elsewhere(first.folder.with_name(f".{first.folder.name}.lock")):
        seen = []
        for training, is_ours in claimed([first, second, third]):
            seen.append((training, is_ours))
            finish(third)  # meanwhile
    assert seen == [(first, False), (second, True), (third, False)]
    assert [is_ours for _, is_ours in claimed([first])] == [True]


def test_models_have_the_folds_of_their_seeds(study: Study, tmp_path: Path) -> None:
    models = study.models()
    folds = {(model.name, model.labelled_cases): dict(model.seeds) for model in models}
    one, three = {0: (5,), 5: (7,)}, {0: (6,), 5: (8,)}
    assert folds == {("A", 1): one, ("A", 3): three, ("B", 1): one, ("B", 3): three}
    assert models[-1].folder == tmp_path / "results" / NAME / "B__Other__2d"


def test_held_out_cases_are_a_domain_of_the_raw_data_set(dataset: LabelledDataset, tmp_path: Path) -> None:
    domain = dataset.held_out(["case_5"])
    raw = tmp_path / "raw" / NAME
    assert (domain.role, domain.images, domain.references) == ("source", raw / "imagesTr", raw / "labelsTr")
    assert domain.cases == ("case_5",)
    dataset.check_untouched([domain], ORDERS)


@pytest.mark.parametrize("cases", [None, ("case_5", "case_3")])
def test_a_study_does_not_test_on_what_it_trains_on(dataset: LabelledDataset, cases: tuple[str, ...] | None) -> None:
    domain = dataset.held_out(["case_5"]).model_copy(update={"cases": cases})
    with pytest.raises(ValueError, match=r"case\(s\) that the study trains on, such as case_"):
        dataset.check_untouched([domain], ORDERS)


def test_a_training_of_another_length_is_refused(dataset: LabelledDataset, study: Study, finish: Callable) -> None:
    finish(study.trainings[0])
    limit = {"minutes": 2, "clock": "wall", "iterations_per_epoch": 250}
    length = {"epochs": 1, "iterations_per_epoch": 9}
    (study.trainings[0].folder / LENGTH_FILE).write_text(json.dumps({"limit": limit, "length": length}))
    arguments = (dataset, "2d", read_rivals(["A"], "Plans"), [1], ORDERS)
    assert make_study(*arguments, TimeBudget(minutes=2)).limit == TimeBudget(minutes=2)
    with pytest.raises(ValueError, match=r"was trained with 2 minutes.*not with 4 minutes"):
        make_study(*arguments, TimeBudget(minutes=4))


def test_a_study_in_equal_time_tells_what_was_trained_in_another_way(study: Study, finish: Callable) -> None:
    first, second = study.trainings[:2]
    finish(first)
    finish(second)
    (first.folder / LENGTH_FILE).write_text("{}")
    assert Study(study.trainings, TimeBudget(minutes=2)).of_unknown_length() == [second]
    assert study.of_unknown_length() == []


def test_rivals_of_one_trainer_are_told_apart_by_their_plans() -> None:
    names = [rival.name for rival in read_rivals(["A", "A:Other", "B"], "Plans")]
    assert names == ["A (Plans)", "A (Other)", "B"]
    with pytest.raises(ValueError, match="names A:Plans twice"):
        read_rivals(["A", "A:Plans"], "Plans")


def test_trainers_must_be_there_before_any_is_trained() -> None:
    check_trainers(read_rivals(["DiffusionEnsembleTrainer", "nnUNetTrainer", "nnUNetTrainer_5epochs"], "Plans"))
    with pytest.raises(ValueError, match="finds no trainer nnUNetTrainr"):
        check_trainers(read_rivals(["nnUNetTrainr"], "Plans"))
    with pytest.raises(ValueError, match="DiffusionPretrainTrainer trains no segmentation"):
        check_trainers(read_rivals(["DiffusionPretrainTrainer"], "Plans"))


def test_a_data_set_must_be_there(dataset: LabelledDataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no data set 8; there is Dataset007_Lungs"):
        LabelledDataset.find("8")
    (tmp_path / "raw" / "Dataset009_New").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Dataset009_New is not preprocessed"):
        LabelledDataset.find("9")
    assert LabelledDataset.find(NAME).cases() == CASES


def test_variables_of_nnunet_must_be_set(dataset: LabelledDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.setenv("nnUNet_results", "")
    with pytest.raises(FileNotFoundError, match=r"nnUNet_raw is not set[^\n]*\n[^\n]*nnUNet_results is not set"):
        LabelledDataset.find("7")


@pytest.mark.parametrize(
    ("rivals", "configuration", "error", "message"),
    [
        (["A:Missing"], "2d", FileNotFoundError, "no plans .*Missing.json"),
        (["A"], "3d_fullres", ValueError, "no configuration 3d_fullres, but 2d"),
    ],
)
def test_plans_must_be_there(dataset, rivals, configuration, error, message) -> None:
    with pytest.raises(error, match=message):
        dataset.check_plans(read_rivals(rivals, "Plans"), configuration)
