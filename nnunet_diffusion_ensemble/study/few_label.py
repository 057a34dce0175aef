"""A label-efficiency study: the same trainers on 1, 3, 6 ... labelled cases, several seeds, then the benchmark.

What is done is read from nnU-Net's result folders, so a study can be stopped, continued, extended and shared out.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec, ModelSpec
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.datasets import VARIABLES, find_dataset
from nnunet_diffusion_ensemble.prediction.model_folder import trainer_class
from nnunet_diffusion_ensemble.study.label_orders import SPLITS, LabelOrders, assign_folds, check_labels
from nnunet_diffusion_ensemble.study.timed_training import LENGTH_FILE, TimeBudget, read_length
from nnunet_diffusion_ensemble.system.child_processes import Command
from nnunet_diffusion_ensemble.system.guard import alone_at, if_free
from nnunet_diffusion_ensemble.system.json_files import read_object

FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class Rival:
    """A trainer and the plans it is given; `name` is what the report calls it."""

    name: str
    trainer: str
    plans: str


@dataclass(frozen=True)
class Training:
    """One training of a study."""

    rival: Rival
    configuration: str
    dataset: str
    num_labels: int
    seed: int
    fold: int

    @property
    def model_folder(self) -> Path:
        return Path(get_output_folder(self.dataset, self.rival.trainer, self.rival.plans, self.configuration))

    @property
    def folder(self) -> Path:
        """Where nnU-Net trains it."""
        return self.model_folder / f"fold_{self.fold}"

    @property
    def is_done(self) -> bool:
        return (self.folder / FINAL).is_file()

    @property
    def is_begun(self) -> bool:
        return any(self.folder.glob("checkpoint_*.pth"))

    @property
    def seconds(self) -> float | None:
        """Wall-clock time of its epochs so far, of all the times that it was continued; None before a checkpoint."""
        files = [self.folder / f"checkpoint_{name}.pth" for name in ("final", "latest", "best")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            return None
        log = read_checkpoint(file, mapped=True, trusted=True)["logging"]
        epochs = zip(
            log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False
        )  # the last may lack its end
        return sum(end - start for start, end in epochs)

    def command(self, device: str, limit: TimeBudget | None) -> Command:
        """What trains it, or goes on with it."""
        line = f"{self.dataset} {self.configuration} {self.fold} -tr {self.rival.trainer} -p {self.rival.plans}"
        arguments = (*line.split(), "-device", device, *(["--c"] if self.is_begun else []))
        if limit is None:
            return Command("nnUNetv2_train", arguments)
        length = (
            f"--minutes {limit.minutes:g} --clock {limit.clock} --iterations-per-epoch {limit.iterations_per_epoch}"
        )
        return Command("nnunet-diffusion", ("train", *arguments, *length.split()))


@dataclass(frozen=True)
class RivalProgress:
    """How many of a rival's trainings are done, of how many, and how long these took."""

    done: int
    total: int
    seconds: float

    @classmethod
    def of(cls, trainings: Sequence[Training]) -> "RivalProgress":
        done = [training for training in trainings if training.is_done]
        return cls(len(done), len(trainings), sum(training.seconds or 0.0 for training in done))


@dataclass(frozen=True)
class Study:
    """All trainings of a study, in the order in which they are shared out and run."""

    trainings: tuple[Training, ...]
    limit: TimeBudget | None = None

    def part(self, part: int, parts: int) -> "Study":
        """Every `parts`-th training, from number `part` on, as nnU-Net shares out cases.

        Raises:
            ValueError: there is no such part.
        """
        if not 0 <= part < parts:
            raise ValueError(f"--part counts from 0 to --parts - 1 = {parts - 1}, got {part}.")
        return Study(self.trainings[part::parts], self.limit)

    def to_do(self) -> list[Training]:
        return [training for training in self.trainings if not training.is_done]

    def of_unknown_length(self) -> list[Training]:
        """Finished trainings of a study in equal time that were not made for a given time, or nobody noted it."""
        done = [training for training in self.trainings if self.limit is not None and training.is_done]
        return [training for training in done if not (training.folder / LENGTH_FILE).is_file()]

    def check(self) -> None:
        """Raises ValueError if a training that is there was given another time than this study gives."""
        for training in self.trainings:
            if self.limit is not None:
                read_length(training.folder, self.limit)

    def progress(self) -> dict[str, "RivalProgress"]:
        """By rival."""
        of_rival: dict[str, list[Training]] = {}
        for training in self.trainings:
            of_rival.setdefault(training.rival.name, []).append(training)
        return {name: RivalProgress.of(trainings) for name, trainings in of_rival.items()}

    def seconds_for(self, trainings: Sequence[Training]) -> float | None:
        """How long they will take, by the mean of their rivals' finished ones, or else by the limit; None: unknown."""
        progress, seconds = self.progress(), 0.0
        for training in trainings:
            rival = progress[training.rival.name]
            if rival.done:
                seconds += rival.seconds / rival.done
            elif self.limit is not None:
                seconds += 60 * self.limit.minutes
            else:
                return None
        return seconds

    def models(self) -> tuple[ModelSpec, ...]:
        """The models of a benchmark: one for each rival and number of labelled cases, with its seeds."""
        seeds: dict[tuple[Rival, int], dict[int, tuple[int | Literal["all"], ...]]] = {}
        folders: dict[Rival, Path] = {}
        for training in self.trainings:
            folders[training.rival] = training.model_folder
            seeds.setdefault((training.rival, training.num_labels), {})[training.seed] = (training.fold,)
        return tuple(
            ModelSpec(name=rival.name, folder=folders[rival], seeds=folds, labelled_cases=num_labels)
            for (rival, num_labels), folds in seeds.items()
        )


def check_trainers(rivals: Sequence[Rival]) -> None:
    """Raises ValueError if a trainer is not there, before hours of training with the others."""
    for trainer in dict.fromkeys(rival.trainer for rival in rivals):
        trainer_class(trainer)


def read_rivals(texts: Sequence[str], plans: str) -> tuple[Rival, ...]:
    """`TRAINER`, or `TRAINER:PLANS` for one with other plans than the rest.

    Raises:
        ValueError: one is named twice.
    """
    pairs = [tuple((text if ":" in text else f"{text}:{plans}").split(":", 1)) for text in texts]
    if twice := [":".join(pair) for pair in dict.fromkeys(pairs) if pairs.count(pair) > 1]:
        raise ValueError(f"--trainers names {twice[0]} twice.")
    trainers = [trainer for trainer, _ in pairs]
    return tuple(
        Rival(trainer if trainers.count(trainer) == 1 else f"{trainer} ({of})", trainer, of) for trainer, of in pairs
    )


@dataclass(frozen=True)
class LabelledDataset:
    """A preprocessed data set with labels."""

    name: str

    @classmethod
    def find(cls, name_or_id: str) -> "LabelledDataset":
        """Raises ValueError or FileNotFoundError if it is unknown, not preprocessed, or has no labels."""
        found = cls(find_dataset(name_or_id, *VARIABLES))
        if not found.references.is_dir():
            raise FileNotFoundError(
                f"{found.name} is not preprocessed: {found.references} is missing. Run nnUNetv2_plan_and_preprocess."
            )
        return found

    @property
    def preprocessed(self) -> Path:
        return Path(os.environ["nnUNet_preprocessed"]) / self.name

    @property
    def raw(self) -> Path:
        return Path(os.environ["nnUNet_raw"]) / self.name

    @property
    def references(self) -> Path:
        return self.preprocessed / "gt_segmentations"

    def held_out(self, cases: Sequence[str]) -> DomainSpec:
        """Some of its cases as a domain to test on."""
        folders = {"images": self.raw / "imagesTr", "references": self.raw / "labelsTr"}
        return DomainSpec(name=f"{self.name}, held out", role="source", cases=tuple(cases), **folders)

    def check_untouched(self, domains: Sequence[DomainSpec], orders: LabelOrders) -> None:
        """Raises ValueError if a domain tests on cases that are, or may become, labelled ones."""
        for domain in domains:
            if domain.images.resolve() != (self.raw / "imagesTr").resolve():
                continue
            labelled = {case for order in orders.orders.values() for case in order}
            seen = sorted(labelled.intersection(self.cases() if domain.cases is None else domain.cases))
            if seen:
                raise ValueError(
                    f"{domain.name} has {len(seen)} case(s) that the study trains on, such as {seen[0]}. Keep cases "
                    "for testing with --hold-out N, or name other ones in the domain's `cases`."
                )

    def cases(self) -> list[str]:
        """Names of the labelled cases."""
        ending = self._file_ending()
        return sorted(file.name.removesuffix(ending) for file in self.references.glob(f"*{ending}"))

    def _file_ending(self) -> str:
        file = self.preprocessed / "dataset.json"
        ending = read_object(file, "Plan again.").get("file_ending")
        if not isinstance(ending, str) or not ending:
            raise ValueError(f"{file} lacks file_ending. Plan again.")
        return ending

    def check_plans(self, rivals: Sequence[Rival], configuration: str) -> None:
        """Raises FileNotFoundError or ValueError if a rival's plans are not there or lack the configuration."""
        for plans in dict.fromkeys(rival.plans for rival in rivals):
            file = self.preprocessed / f"{plans}.json"
            if not file.is_file():
                raise FileNotFoundError(f"There are no plans {file}. Plan with -p {plans} first, or name others.")
            there = read_object(file, "Plan again.").get("configurations")
            if not isinstance(there, dict):
                raise ValueError(f"{file} lacks configurations. Plan again.")
            if configuration not in there:
                raise ValueError(f"{file} has no configuration {configuration}, but {', '.join(there)}.")


def make_study(
    dataset: LabelledDataset,
    configuration: str,
    rivals: Sequence[Rival],
    labels: Sequence[int],
    orders: LabelOrders,
    limit: TimeBudget | None = None,
) -> Study:
    """The trainings of all rivals, seeds and numbers of labels. Writes nothing: `add_folds` does.

    Raises:
        ValueError: there are too few cases, or a training that is there was given another time.
    """
    check_labels(orders, labels, dataset.cases())
    folds = _folds(dataset, labels, orders, write=False)
    trainings = [
        Training(rival, configuration, dataset.name, n, seed, fold)
        for rival in rivals
        for (seed, n), fold in folds.items()
    ]
    study = Study(tuple(trainings), limit)
    study.check()
    return study


def add_folds(dataset: LabelledDataset, labels: Sequence[int], orders: LabelOrders) -> None:
    """Adds the folds that a study trains on to the data set, as far as they are not there."""
    with alone_at(dataset.preprocessed / SPLITS, wait=True):  # several parts may begin at once
        _folds(dataset, labels, orders, write=True)


def _folds(
    dataset: LabelledDataset, labels: Sequence[int], orders: LabelOrders, write: bool
) -> dict[tuple[int, int], int]:
    """The fold of each seed and number of labels."""
    cases = dataset.cases()
    splits = {(seed, n): orders.split(seed, n, cases) for seed in orders.orders for n in labels}
    folds = assign_folds(dataset.preprocessed, cases, list(splits.values()), write)
    return dict(zip(splits, folds, strict=True))


def claimed(trainings: Sequence[Training]) -> Iterator[tuple[Training, bool]]:
    """Trainings one after the other, each with whether it is ours: another process may be at it, or have done it."""
    for training in trainings:
        training.folder.mkdir(parents=True, exist_ok=True)
        with if_free(alone_at(training.folder)) as is_free:  # in the folder is the lock of the training itself
            yield training, is_free and not training.is_done
