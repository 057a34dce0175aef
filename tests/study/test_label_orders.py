"""Nested labelled cases: orders drawn and read, splits, and folds beside those that are there."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold

from nnunet_diffusion_ensemble.study.label_orders import (
    LabelOrders,
    assign_folds,
    check_labels,
    draw_orders,
    read_orders,
)

CASES = [f"case_{i}" for i in range(10)]


def test_labelled_cases_of_one_seed_are_nested_and_never_validated_on() -> None:
    orders = LabelOrders({0: ("c", "a", "d", "b")}, held_out=("e",))
    cases = ["a", "b", "c", "d", "e", "f"]
    assert orders.split(0, 1, cases) == {"train": ["c"], "val": ["a", "b", "d", "f"], "seed": 0}
    assert orders.split(0, 3, cases) == {"train": ["c", "a", "d"], "val": ["b", "f"], "seed": 0}


def test_drawn_orders_are_permutations_without_the_held_out_cases() -> None:
    orders = draw_orders(CASES, [0, 7], num_held_out=3)
    assert len(orders.held_out) == 3
    for order in orders.orders.values():
        assert sorted([*order, *orders.held_out]) == CASES
    assert orders.orders[0] != orders.orders[7]


def test_a_draw_depends_on_its_seed_alone() -> None:
    both, one = draw_orders(CASES, [0, 7], 3), draw_orders(CASES[::-1], [7], 3)
    assert both.orders[7] == one.orders[7]
    assert both.held_out == one.held_out


def test_orders_are_read_as_they_were_written(tmp_path: Path) -> None:
    orders = draw_orders(CASES, [0, 1], 2)
    (tmp_path / "orders.json").write_text(json.dumps(orders.to_json()))
    assert read_orders(tmp_path / "orders.json", CASES, [0, 1]) == orders
    assert list(read_orders(tmp_path / "orders.json", CASES, [1]).orders) == [1]


def test_held_out_cases_that_are_partly_of_another_data_set_are_refused(tmp_path: Path) -> None:
    content = {"seeds": {"0": {"train_order": ["case_1"]}}, "in_domain_test": ["case_2", "elsewhere"]}
    (tmp_path / "orders.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"in_domain_test names 1 case\(s\) that the data set has not, such as elsewhere"
    ):
        read_orders(tmp_path / "orders.json", CASES, [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "no file of label orders"),
        ("{}", "no file of label orders.*train_order"),
        ('{"seeds": {"0": ["case_1"]}}', "no file of label orders"),
        ('{"seeds": {"1": {"train_order": ["case_1"]}}}', "has no seed 0; it has 1"),
        ('{"seeds": {"0": {"train_order": ["case_1", "x"]}}}', r"seed 0: 1 case\(s\) not in the data set, such as x"),
        ('{"seeds": {"0": {"train_order": ["case_1", "case_1"]}}}', "named twice, such as case_1"),
        ('{"seeds": {"0": {"train_order": ["case_1"]}}, "in_domain_test": ["case_1"]}', "also in in_domain_test"),
    ],
)
def test_a_wrong_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_orders(tmp_path / "orders.json", CASES, [0])


@pytest.mark.parametrize(
    ("labels", "orders", "message"),
    [
        ([1, 5], LabelOrders({3: tuple(CASES[:4])}), "5 labelled cases cannot be taken with seed 3.*At most: 4"),
        ([10], draw_orders(CASES, [0]), "At most: 9"),
        ([8], draw_orders(CASES, [0], 2), "2 are held out.*At most: 7"),
    ],
)
def test_more_labels_than_cases_are_refused(labels: list[int], orders: LabelOrders, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_labels(orders, labels, CASES)


@pytest.mark.parametrize(("labels", "held_out"), [([9], 0), ([7], 2)])
def test_all_but_one_case_can_be_labelled(labels: list[int], held_out: int) -> None:
    check_labels(draw_orders(CASES, [0], held_out), labels, CASES)


def split(train: str, seed: int = 0) -> dict:
    return {"train": train.split(), "val": ["case_1"], "seed": seed}


def test_folds_follow_those_that_nnunet_would_have_made(tmp_path: Path) -> None:
    wanted = [split("case_3"), split("case_3 case_0")]
    assert assign_folds(tmp_path, CASES, wanted) == [5, 6]
    written = json.loads((tmp_path / "splits_final.json").read_text())
    assert written[5:] == wanted
    for fold, (_, validation) in enumerate(KFold(5, shuffle=True, random_state=12345).split(CASES)):
        assert written[fold]["val"] == np.array(CASES)[validation].tolist()


def test_folds_that_are_there_stay_and_are_used_again(tmp_path: Path) -> None:
    there = [{"train": ["b", "a"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(there))
    wanted = [split("b"), split("a b")]
    assert assign_folds(tmp_path, ["a", "b", "c", "d"], wanted) == [2, 0]
    assert assign_folds(tmp_path, ["a", "b", "c", "d"], wanted) == [2, 0]
    assert json.loads((tmp_path / "splits_final.json").read_text()) == [*there, wanted[0]]


def test_seeds_with_the_same_cases_have_a_fold_each(tmp_path: Path) -> None:
    assert assign_folds(tmp_path, CASES, [split("case_3", 0), split("case_3", 1)]) == [5, 6]
    assert assign_folds(tmp_path, CASES, [split("case_3", 1), split("case_3", 2)]) == [6, 7]
    there = [{"train": ["case_3"], "val": []}] * 2  # of a user, for no seed
    (tmp_path / "splits_final.json").write_text(json.dumps(there))
    assert assign_folds(tmp_path, CASES, [split("case_3", seed) for seed in (0, 1, 2)]) == [0, 1, 2]


def test_folds_can_be_looked_up_without_writing(tmp_path: Path) -> None:
    assert assign_folds(tmp_path, CASES, [split("case_3")], write=False) == [5]
    assert not list(tmp_path.iterdir())


def test_few_cases_have_no_folds_of_nnunet(tmp_path: Path) -> None:
    assert assign_folds(tmp_path, CASES[:4], [split("case_0")]) == [0]
