"""Which cases a few-label study trains on: for each seed an order, whose first n cases are the n labelled ones.

So the labelled cases of one seed are nested. nnU-Net reads them as folds of `splits_final.json`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from nnunetv2.utilities.crossval_split import generate_crossval_split
from pydantic import ConfigDict, Field

from nnunet_diffusion_ensemble.system.allowed import WORDS
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_value
from nnunet_diffusion_ensemble.system.settings import Listed, Settings, Text
from nnunet_diffusion_ensemble.training.splits import FOLDS_OF_NNUNET, SPLITS

HELD_OUT_SEED = 12345  # the held-out cases are the same for all seeds
FORMAT = '{"seeds": {"0": {"train_order": ["CASE", ...]}, ...}}, optionally with "in_domain_test": ["CASE", ...]'

logger = logging.getLogger(__name__)

Split = dict[str, Any]  # nnU-Net's `train` and `val`, and for folds of ours the `seed`, which nnU-Net does not read


class _Order(Settings):
    model_config = ConfigDict(extra="ignore")

    train_order: Listed[Text]


class _OrdersFile(Settings):
    """What is read of a file of label orders; it may say more."""

    model_config = ConfigDict(extra="ignore")

    seeds: dict[Annotated[int, Field(ge=0, strict=False)], _Order] = Field(
        json_schema_extra={WORDS: "an object with a train_order, a list of cases, for each seed"}
    )
    in_domain_test: Listed[Text] = ()


@dataclass(frozen=True)
class LabelOrders:
    """For each seed the order in which cases become labelled, and the cases that no training may see."""

    orders: Mapping[int, tuple[str, ...]]
    held_out: tuple[str, ...] = ()

    def split(self, seed: int, num_labels: int, cases: Sequence[str]) -> Split:
        """The first cases of a seed's order for training, all others that are not held out for validation."""
        train = self.orders[seed][:num_labels]
        unseen = {*train, *self.held_out}
        return {"train": list(train), "val": sorted(case for case in cases if case not in unseen), "seed": seed}

    def to_json(self) -> dict[str, Any]:
        seeds = {str(seed): {"train_order": list(order)} for seed, order in self.orders.items()}
        return {"seeds": seeds, "in_domain_test": list(self.held_out)}


def draw_orders(cases: Sequence[str], seeds: Sequence[int], num_held_out: int = 0) -> LabelOrders:
    """Random orders of all cases but the held-out ones. They do not depend on how many of them are used.

    Raises:
        ValueError: all cases would be held out.
    """
    cases = sorted(cases)
    if num_held_out >= len(cases):
        raise ValueError(
            f"--hold-out {num_held_out}: the data set has {len(cases)} labelled case(s), which leaves none."
        )
    held_out = set(np.random.default_rng(HELD_OUT_SEED).permutation(cases)[:num_held_out].tolist())
    rest = [case for case in cases if case not in held_out]
    orders = {seed: tuple(np.random.default_rng(seed).permutation(rest).tolist()) for seed in seeds}
    return LabelOrders(orders, tuple(sorted(held_out)))


def read_orders(file: Path, cases: Sequence[str], seeds: Sequence[int]) -> LabelOrders:
    """Orders from a file of this form, the one that `to_json` writes:

        {"seeds": {"0": {"train_order": ["CASE", ...]}, ...}, "in_domain_test": ["CASE", ...]}

    Args:
        file: JSON.
        cases: those of the data set. Held-out cases may all lie elsewhere; then they are left out.
        seeds: those wanted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another form, lacks a seed, or names cases that the data set has not, or one twice.
    """
    try:
        content = _OrdersFile.read(read_value(file))
    except ValueError as error:
        raise ValueError(f"{file} is no file of label orders ({error}) Its form is {FORMAT}.") from error
    orders = {seed: order.train_order for seed, order in content.seeds.items()}
    if missing := [seed for seed in seeds if seed not in orders]:
        raise ValueError(f"{file} has no seed {missing[0]}; it has {', '.join(map(str, orders))}.")
    for seed in seeds:
        _check_order(file, seed, orders[seed], set(cases), set(content.in_domain_test))
    known = tuple(case for case in content.in_domain_test if case in set(cases))
    if unknown := sorted(set(content.in_domain_test) - set(known)):
        text = f"{file}: in_domain_test names {len(unknown)} case(s) that the data set has not, such as {unknown[0]}"
        if known:
            raise ValueError(f"{text}, beside {len(known)} that it has. Name cases of this data set, or none.")
        logger.warning("%s: none of them can be tested on here.", text)
    return LabelOrders({seed: orders[seed] for seed in seeds}, known)


def _check_order(file: Path, seed: int, order: Sequence[str], cases: set[str], held_out: set[str]) -> None:
    problems = {
        "not in the data set": [case for case in order if case not in cases],
        "named twice": [case for case in dict.fromkeys(order) if order.count(case) > 1],
        "also in in_domain_test": [case for case in order if case in held_out],
    }
    for problem, names in problems.items():
        if names:
            raise ValueError(f"{file}, seed {seed}: {len(names)} case(s) {problem}, such as {names[0]}.")


def check_labels(orders: LabelOrders, labels: Sequence[int], cases: Sequence[str]) -> None:
    """Raises ValueError if there are too few cases for the largest number of labels and one more for validation."""
    for seed, order in orders.orders.items():
        most = min(len(order), len(cases) - len(orders.held_out) - 1)
        if max(labels) > most:
            raise ValueError(
                f"{max(labels)} labelled cases cannot be taken with seed {seed}: its order has {len(order)} of "
                f"{len(cases)} cases, {len(orders.held_out)} are held out, and one must be left for validation. "
                f"At most: {most}."
            )


def assign_folds(preprocessed: Path, cases: Sequence[str], splits: Sequence[Split], write: bool = True) -> list[int]:
    """The numbers of the folds that train on the same cases as `splits`; missing ones are added.

    Folds that are there stay as they are, and where there is no file yet the first five are nnU-Net's own. Two seeds
    may have the same cases; they get a fold each, since a seed stands for a training of its own.

    Args:
        preprocessed: folder of the data set in nnUNet_preprocessed.
        cases: all labelled cases.
        splits: wanted.
        write: otherwise the file stays as it is.

    Returns:
        a fold for each of them.
    """
    file = preprocessed / SPLITS
    there = read_splits(file) if file.is_file() else _folds_of_nnunet(cases)
    number, folds = len(there), []
    for split in splits:
        fold = next((fold for fold in _equal(split, there) if fold not in folds), len(there))
        if fold == len(there):
            there.append(split)
        folds.append(fold)
    if len(there) > number and write:
        write_text(file, json.dumps(there, indent=4))
    return folds


def read_splits(file: Path) -> list[Split]:
    """nnU-Net's folds.

    Raises:
        ValueError: it is no such file; the message names the fold.
    """
    splits = read_value(file)
    if not isinstance(splits, list):
        raise ValueError(f"{file} must hold a list of folds, but holds a {type(splits).__name__}.")
    for fold, split in enumerate(splits):
        parts = [split.get(part) if isinstance(split, dict) else None for part in ("train", "val")]
        if not all(isinstance(part, list) and all(isinstance(case, str) for case in part) for part in parts):
            raise ValueError(f'{file}, fold {fold}: must be {{"train": [CASES], "val": [CASES]}}.')
    return splits


def _equal(split: Split, folds: Sequence[Split]) -> list[int]:
    """Folds that train on the same cases for the same seed, and then those that nobody made for a seed."""
    equal = [fold for fold, there in enumerate(folds) if set(there["train"]) == set(split["train"])]
    of_seed = [fold for fold in equal if folds[fold].get("seed") == split["seed"]]
    return of_seed + [fold for fold in equal if "seed" not in folds[fold]]


def _folds_of_nnunet(cases: Sequence[str]) -> list[Split]:
    if len(cases) < FOLDS_OF_NNUNET:
        return []
    folds = generate_crossval_split(np.sort(list(cases)).tolist(), n_splits=FOLDS_OF_NNUNET)
    return [{part: list(map(str, names)) for part, names in fold.items()} for fold in folds]
