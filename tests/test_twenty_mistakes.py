"""The twenty questions most asked of nnU-Net and its forks: each mistake is made, and the program answers."""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATASET_NAME, PLANS_NAME, make_architecture, make_plans
from faulty_files import SHAPE, make_dataset, mask, save, stored, volume
from nnunetv2.run import run_training as nnunets
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from PIL import Image
from twenty_questions import QUESTIONS, Answer

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.trainer_classes import find_trainer
from nnunet_diffusion_ensemble.system.explained import EXPLANATIONS
from nnunet_diffusion_ensemble.system.told import tell_in_nnunets_commands

ANSWERS = {answer.case: answer for question in QUESTIONS for answer in question.answers}
NNUNETS_PLANS = "nnUNetPlans"


class World:
    """A folder with a data set, raw or preprocessed, or a trained model, in which the mistake is made."""

    def __init__(self, request: pytest.FixtureRequest):
        self.request, self.patch = request, request.getfixturevalue("monkeypatch")
        self.root: Path = request.getfixturevalue("tmp_path")
        self.patch.chdir(self.root)

    def raw(self, ending: str = ".nii.gz", **changes: Any) -> Path:
        return make_dataset(self.root, self.patch, ending, **changes)

    def preprocessed(self, num_cases: int = 5) -> Path:
        """Plans of ours and cases; returns the folder of the data set."""
        self.request.getfixturevalue("make_trainer")
        folder = self.root / "preprocessed" / DATASET_NAME
        for file in sorted((folder / "nnUNetPlans_2d").iterdir())[3 * num_cases :]:
            file.unlink()
        plans = make_plans({"diffusion": DiffusionMethod().to_plans()})
        (folder / f"{PLANS_NAME}.json").write_text(json.dumps(plans))
        dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps({**dataset, "numTraining": num_cases}))
        return folder

    def trained(self) -> Path:
        folder = self.request.getfixturevalue("model_folder")()
        save(self.root / "images" / "a_0000.nii.gz", volume(shape=(3, 22, 19)))
        return folder

    def fails_in_training(self, error: Callable[[], Any]) -> None:
        """`error()` raises what training would, where there is no GPU, or no worker to kill."""
        self.preprocessed()
        self.patch.setattr(nnUNetTrainer, "run_training", lambda trainer: error())


def raises(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


# ---- the mistakes, by their names in the table


def unset(world: World) -> None:
    world.raw()
    world.patch.delenv("nnUNet_raw")


def misspelt(world: World) -> None:
    world.raw()
    world.patch.delenv("nnUNet_preprocessed")
    world.patch.setenv("nnUNet_preprpcessed", "somewhere")


def without_three_digits(world: World) -> None:
    raw = world.raw()
    raw.rename(raw.with_name("Dataset_1_Doors"))


def number_twice(world: World) -> None:
    world.raw().with_name("Dataset001_Other").mkdir()


def without_channel(*cases: str) -> Callable[[World], None]:
    def make(world: World) -> None:
        folder = world.raw() / "imagesTr"
        for case in cases:
            (folder / f"{case}_0000.nii.gz").rename(folder / f"{case}.nii.gz")

    return make


def jpeg(world: World) -> None:
    for file in (world.raw(".png") / "imagesTr").iterdir():
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()


def transparent(world: World) -> None:
    file = world.raw(".png") / "imagesTr" / "a_0000.png"
    Image.open(file).convert("RGBA").save(file)


def label(case: str, spoil: Callable[[Path], Any]) -> Callable[[World], None]:
    return lambda world: spoil(world.raw() / "labelsTr" / f"{case}.nii.gz")


def nnunets_plans(world: World) -> None:
    plans = make_plans({})
    (world.preprocessed() / f"{NNUNETS_PLANS}.json").write_text(json.dumps(plans))


def not_preprocessed(world: World) -> None:
    for file in (world.preprocessed() / "nnUNetPlans_2d").iterdir():
        file.unlink()


def fails_to_compile() -> None:
    def backend(*_: Any) -> None:
        raise RuntimeError("Cannot find a working installation")

    torch.compile(torch.neg, backend=backend)(torch.ones(1))


def other_weights(world: World) -> None:
    world.preprocessed()
    weights = find_trainer("DiffusionEnsembleTrainer").build_network_architecture
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    wider = make_architecture("2d", features_per_stage=[3, 4, 5])
    manager = PlansManager(make_plans({"diffusion": DiffusionMethod().to_plans(), "architecture": wider}))
    network = weights(manager, manager.get_configuration("2d"), 1, 2)
    torch.save({"network_weights": network.state_dict()}, world.root / "other.pth")


def stopped(world: World) -> None:
    fold = world.trained() / "fold_0"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_best.pth")


def channel_too_many(world: World) -> None:
    world.trained()
    save(world.root / "images" / "a_0001.nii.gz", volume(shape=(3, 22, 19)))


def other_ending(world: World) -> None:
    world.trained()
    (world.root / "images" / "a_0000.nii.gz").unlink()
    save(world.root / "images" / "a_0000.png", mask(SHAPE[1:]))


MISTAKES: dict[str, Callable[[World], Any]] = {
    "a variable that is not set": unset,
    "a variable that is misspelt": misspelt,
    "a folder without three digits": without_three_digits,
    "a number that two data sets have": number_twice,
    "images without the number of the channel": without_channel("a", "b", "c"),
    "one image without the number of the channel": without_channel("b"),
    "another number of cases": lambda world: world.raw(numTraining=100),
    "JPEG in dataset.json": lambda world: world.raw(".png", file_ending=".jpg"),
    "JPEG in the folder": jpeg,
    "a PNG with transparency": transparent,
    "masks of 0 and 255": label("a", lambda file: save(file, 255 * mask())),
    "labels with a gap": lambda world: world.raw(labels={"background": 0, "organ": 2}),
    "a label map of another size": label("b", lambda file: save(file, mask((6, 12, 11)))),
    "a label map of another spacing": label("b", stored(spacing=(0.8, 1.1, 2.5))),
    "plans of another name": World.preprocessed,
    "-p forgotten, plans not there": World.preprocessed,
    "-p forgotten, nnU-Net's own plans there": nnunets_plans,
    "preprocessing left out": not_preprocessed,
    "a fold that few cases do not have": lambda world: world.preprocessed(num_cases=3),
    "a trainer that is mistyped": World.preprocessed,
    "no GPU": World.preprocessed,
    "a GPU without enough memory": lambda world: world.fails_in_training(raises(torch.cuda.OutOfMemoryError("Tried"))),
    "a worker that died": lambda world: world.fails_in_training(
        raises(RuntimeError("One or more background workers are no longer alive. Exiting."))
    ),
    "a compiler that fails": lambda world: world.fails_in_training(fails_to_compile),
    "weights of another network": other_weights,
    "a training that was stopped": stopped,
    "a channel too many": channel_too_many,
    "files of another ending": other_ending,
}


# ---- the commands


def run_ours(words: list[str]) -> None:
    assert main(words) == 2


def run_nnunets(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """`nnUNetv2_train` in this process; an error ends it as Python ends a program."""
    dataset, configuration, fold, *options = words[1:]
    given = dict(zip(options[::2], options[1::2], strict=True))
    patch.setattr(nnunets, "recursive_find_trainer_class_by_name", find_trainer)  # it may not be registered here
    patch.setattr(sys, "argv", words)
    patch.setattr(sys, "excepthook", sys.__excepthook__)
    tell_in_nnunets_commands()
    try:
        nnunets.run_training(
            dataset,
            configuration,
            fold,
            given["-tr"],
            given.get("-p", NNUNETS_PLANS),
            given.get("-pretrained_weights"),
            device=torch.device(given.get("-device", "cuda")),
        )
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


def pattern(says: str) -> str:
    return ".*".join(re.escape(part) for part in says.split(" ... "))


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=lambda answer: answer.case)
def test_the_program_says_what_to_do(
    answer: Answer, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    world = World(request)
    MISTAKES[answer.case](world)
    words = shlex.split(answer.command)
    if words[0].startswith("nnUNetv2_"):
        run_nnunets(words, world.patch)
    else:
        run_ours(words[1:] + (["-np", "1"] if words[1] in ("plan", "preprocess") else []))
    told = capsys.readouterr().err
    assert re.search(pattern(answer.says), told, re.DOTALL), told
    assert "Traceback" not in told


def test_there_are_twenty_questions_and_each_mistake_is_made() -> None:
    assert len(QUESTIONS) == 20
    assert ANSWERS.keys() == MISTAKES.keys()


def test_explained_are_words_that_the_libraries_say() -> None:
    """A library that rewords its errors must not leave ours behind."""
    from batchgenerators.dataloading import nondet_multi_threaded_augmenter
    from nnunetv2.preprocessing.preprocessors import default_preprocessor
    from nnunetv2.run import load_pretrained_weights
    from nnunetv2.utilities import file_path_utilities

    workers, _, gpu, weights, _ = (words for words, _ in EXPLANATIONS)
    of_workers = (nondet_multi_threaded_augmenter, default_preprocessor, file_path_utilities)
    said = [(workers, module) for module in of_workers] + [(gpu, torch.cuda), (weights, load_pretrained_weights)]
    assert [re.search(words, inspect.getsource(module)) for words, module in said].count(None) == 0
