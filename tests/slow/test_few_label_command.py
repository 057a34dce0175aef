"""`nnunet-diffusion few-label` as a user runs it: killed, continued, shared out, and handed over to the benchmark."""

import json
from pathlib import Path

import pandas as pd
import pytest
from nnunet_commands import TINY, TINY_PLANS, Workplace, write_rectangles

from nnunet_diffusion_ensemble.benchmark.results import read_table

pytestmark = pytest.mark.slow

CASES = [f"case_{i}" for i in range(7)]
HELD_OUT, TRAINERS = 2, ("ScratchTrainer", "nnUNetTrainer")
DOMAINS = """
domains:
  - {name: elsewhere, role: target, images: elsewhere/imagesTr, references: elsewhere/labelsTr}
metrics: [Dice, Brier]
unit: px
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A planned and preprocessed data set, and another hospital."""
    made = Workplace(tmp_path_factory.mktemp("study"), "Dataset001_Rectangles", external=True)
    write_rectangles(made.raw / made.dataset, CASES)
    write_rectangles(made.root / "elsewhere", ["other_a", "other_b", "other_c"])
    (made.root / "domains.yaml").write_text(DOMAINS)
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", TINY_PLANS, *TINY, "-np", 1)
    made.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", TINY_PLANS, "-c", "2d", "-np", 1)
    return made


COMMAND = (
    *("nnunet-diffusion", "few-label", "-d", 1, "-p", TINY_PLANS, "--trainers", *TRAINERS, "--labels", 2, 1),
    *("--seeds", 3, "--hold-out", HELD_OUT, "--benchmark", "domains.yaml", "-o", "study", "-device", "cpu"),
    *("--minutes", 0.02, "--clock", "cpu", "--iterations-per-epoch", 2),
)


@pytest.fixture(scope="module")
def results(workplace: Workplace) -> pd.DataFrame:
    """Of a study that was killed in its second training, went on in part 0 of 2, and was finished without parts."""
    workplace.run_until("[2/4]", *COMMAND)
    said = workplace.run(*COMMAND, "--dry-run")
    assert "ScratchTrainer: 1 of 2 done" in said
    assert "nnUNetTrainer: 0 of 2 done" in said
    workplace.run(*COMMAND, "--part", 0, "--parts", 2)
    said = workplace.run(*COMMAND)
    assert "nnUNetTrainer: 1 of 2 done" in said
    return read_table(workplace.root / "study" / "benchmark" / "results.csv")


def test_every_model_is_tested_on_the_held_out_cases_and_elsewhere(workplace: Workplace, results: pd.DataFrame) -> None:
    orders = json.loads((workplace.root / "study" / "label_orders.json").read_text())
    cases = [*orders["in_domain_test"], "other_a", "other_b", "other_c"]
    expected = {(name, n, 3, case) for name in TRAINERS for n in (1, 2) for case in cases}
    for metric in ("Dice", "Brier"):
        rows = results[results["metric"] == metric]
        assert set(zip(rows["model"], rows["labelled_cases"], rows["seed"], rows["case"], strict=True)) == expected
        assert len(rows) == len(expected)
        assert rows["value"].between(0, 1).all()


def test_trainings_have_seen_the_first_cases_of_the_order_alone(workplace: Workplace, results: pd.DataFrame) -> None:
    orders = json.loads((workplace.root / "study" / "label_orders.json").read_text())
    order, held_out = orders["seeds"]["3"]["train_order"], orders["in_domain_test"]
    assert len(held_out) == HELD_OUT
    assert sorted(order + held_out) == CASES
    splits = json.loads((workplace.preprocessed / workplace.dataset / "splits_final.json").read_text())
    assert [split["train"] for split in splits[5:]] == [order[:1], order[:2]]
    for trainer in TRAINERS:
        folds = {path.name for path in workplace.trained(trainer, TINY_PLANS).glob("fold_*")}
        assert folds == {"fold_5", "fold_6"}


def test_a_second_run_trains_and_predicts_nothing(workplace: Workplace, results: pd.DataFrame) -> None:
    files = [*workplace.results.rglob("*.pth"), *(workplace.root / "study").rglob("*.png")]
    before: dict[Path, int] = {file: file.stat().st_mtime_ns for file in files}
    said = workplace.run(*COMMAND)
    assert "To do" not in said
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert len(before) > 4 + 4 * 5


def test_a_domain_of_training_cases_is_refused_before_anything_is_trained(workplace: Workplace) -> None:
    raw = workplace.raw / workplace.dataset
    domain = f"{{name: all, role: source, images: {raw}/imagesTr, references: {raw}/labelsTr}}"
    (workplace.root / "leaking.yaml").write_text(f"domains:\n  - {domain}\n")
    command = [word if word != "domains.yaml" else "leaking.yaml" for word in COMMAND]
    said = workplace.run(*command, fails=True)
    assert "case(s) that the study trains on" in said
    assert "Traceback" not in said
