"""The data sets on a machine, and how far each has come: fingerprint, plans, preprocessed, pretrained, trained."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.data.fingerprint import FINGERPRINT
from nnunet_diffusion_ensemble.data.preprocessing_job import unlabelled_folder
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
from nnunet_diffusion_ensemble.doctor.finding import NOTE, OK, PROBLEM, Finding
from nnunet_diffusion_ensemble.method import PLANS_KEY
from nnunet_diffusion_ensemble.nnunet.dataset_json import has_labels, read_dataset_json
from nnunet_diffusion_ensemble.nnunet.datasets import NAME
from nnunet_diffusion_ensemble.nnunet.raw_cases import labelled_file_counts
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases
from nnunet_diffusion_ensemble.system.json_files import read_object

FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class DataFolders:
    """nnU-Net's folders, as far as their variables are set."""

    raw: Path | None
    preprocessed: Path | None
    results: Path | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "DataFolders":
        return cls(*(_folder(environment.get(f"nnUNet_{name}")) for name in ("raw", "preprocessed", "results")))

    def datasets(self) -> list[str]:
        """Names of data sets that are in any of them."""
        folders = [folder for folder in (self.raw, self.preprocessed, self.results) if folder is not None]
        names = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
        return sorted(name for name in names if NAME.fullmatch(name))


def _folder(value: str | None) -> Path | None:
    return Path(value) if value and Path(value).is_dir() else None


def look_at_datasets(places: DataFolders) -> Iterator[Finding]:
    """A line for each data set, and one for each configuration of plans of ours."""
    names = places.datasets()
    if not names:
        yield Finding("data sets", NOTE, "there are none", "nnunet-diffusion convert --help, or docs of nnU-Net")
    for name in names:
        yield from look_at_dataset(name, places)


def look_at_dataset(name: str, places: DataFolders) -> Iterator[Finding]:
    """How far one has come, and what comes next."""
    match = NAME.fullmatch(name)
    number = int(match[1]) if match else 0
    try:
        counts = yield from _raw(name, places)
        files = sorted((places.preprocessed / name).glob("*.json")) if places.preprocessed else []
        if not (places.preprocessed and (places.preprocessed / name / FINGERPRINT).is_file()):
            yield Finding(name, NOTE, "has no fingerprint yet", f"nnunet-diffusion plan -d {number}")
            return
        plans = [(file, content) for file in files if (content := _plans_of_ours(file)) is not None]
    except (ValueError, OSError) as error:
        yield Finding(name, PROBLEM, str(error))
        return
    if not plans:
        yield Finding(name, NOTE, "has a fingerprint, but no plans of ours", f"nnunet-diffusion plan -d {number}")
    for file, content in plans:
        for configuration in content["configurations"]:
            state = ConfigurationState(
                name, number, file.stem, configuration, content["configurations"][configuration], places
            )
            yield state.finding(counts)


def _raw(name: str, places: DataFolders) -> Generator[Finding, None, tuple[int, int] | None]:
    """Yields what the raw data are; returns how many labelled and unlabelled cases, None if they are not here."""
    if places.raw is None or not (places.raw / name).is_dir():
        yield Finding(name, NOTE, "no raw data on this machine")
        return None
    dataset_json = read_dataset_json(places.raw / name)
    labelled = len(labelled_file_counts(places.raw / name, dataset_json)) if has_labels(dataset_json) else 0
    unlabelled = len(find_unlabelled_cases(places.raw / name, dataset_json))
    text = f"{labelled} labelled case(s), {unlabelled} unlabelled"
    if labelled + unlabelled == 0:
        yield Finding(name, PROBLEM, text, "put images into imagesTr and labels into labelsTr, others into imagesUn")
    else:
        yield Finding(name, OK, text)
    return labelled, unlabelled


def _plans_of_ours(file: Path) -> dict[str, Any] | None:
    """Plans with settings of the method in one of their configurations at least."""
    if file.name in ("dataset.json", FINGERPRINT):
        return None
    try:
        content = read_object(file)
    except ValueError:
        if not file.stem.endswith("Plans"):
            return None
        raise
    configurations = content.get("configurations")
    if not isinstance(configurations, dict):
        return None
    ours = {name: one for name, one in configurations.items() if isinstance(one, dict) and PLANS_KEY in one}
    return {**content, "configurations": ours} if ours else None


@dataclass(frozen=True)
class ConfigurationState:
    """How far one configuration of a data set's plans has come."""

    dataset: str
    number: int
    plans: str
    configuration: str
    content: Mapping[str, Any]
    places: DataFolders

    def finding(self, counts: tuple[int, int] | None) -> Finding:
        """A line, with the command that comes next."""
        labelled, unlabelled = self.num_preprocessed()
        if counts is not None and (labelled < counts[0] or unlabelled < counts[1]):
            text = f"preprocessed {labelled} of {counts[0]} labelled, {unlabelled} of {counts[1]} unlabelled cases"
            return self._line(NOTE, text, f"nnunet-diffusion preprocess -d {self.number} -c {self.configuration}")
        done = f"preprocessed {labelled} labelled, {unlabelled} unlabelled"
        trained, begun = self.trainings()
        pretrained = [where for where in trained if "PretrainTrainer" in where]
        if begun:
            return self._line(NOTE, f"{done}; begun, not finished: {', '.join(begun)}", "nnUNetv2_train ... --c")
        if len(trained) > len(pretrained):
            return self._line(OK, f"{done}; trained: {', '.join(trained)}")
        has_denoiser = pretrained or self.content[PLANS_KEY].get("pretrained_checkpoint")
        fold, trainer = (0, "DiffusionEnsembleTrainer") if has_denoiser else ("all", "DiffusionPretrainTrainer")
        command = f"nnUNetv2_train {self.number} {self.configuration} {fold} -tr {trainer} -p {self.plans}"
        text = f"{done}; {'pretrained, not trained' if has_denoiser else 'not pretrained'}"
        return self._line(OK, text, command if labelled or not has_denoiser else "")

    def _line(self, verdict: str, text: str, remedy: str = "") -> Finding:
        remedy += f" -p {self.plans}" if remedy.startswith("nnunet-diffusion preprocess") else ""
        return Finding(f"{self.dataset}, {self.plans}, {self.configuration}", verdict, text, remedy)

    def num_preprocessed(self) -> tuple[int, int]:
        """Labelled and unlabelled cases that are preprocessed."""
        assert self.places.preprocessed is not None
        base, identifier = self.places.preprocessed / self.dataset, str(self.content.get("data_identifier"))
        unlabelled = UnlabelledDataset(unlabelled_folder(base, identifier))
        return len(list((base / identifier).glob("*.pkl"))), len(unlabelled.identifiers)

    def trainings(self) -> tuple[list[str], list[str]]:
        """Finished trainings, and those that have only other checkpoints; each as `TRAINER fold_X`."""
        if self.places.results is None:
            return [], []
        pattern = f"*__{self.plans}__{self.configuration}/fold_*"
        finished, begun = [], []
        for folder in sorted((self.places.results / self.dataset).glob(pattern)):
            title = f"{folder.parent.name.split('__')[0]} {folder.name}"
            if (folder / FINAL).is_file():
                finished.append(title)
            elif any(folder.glob("checkpoint_*.pth")):
                begun.append(title)
        return finished, begun
