"""Running nnU-Net's commands in folders of their own, for the slow tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import ForkedCommand, can_be_forked
from PIL import Image

from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER, EXTERNAL_VARIABLE, shim_states

PRETRAIN, ENSEMBLE = "DiffusionPretrainTrainer", "DiffusionEnsembleTrainer"
EXTERNAL = {EXTERNAL_VARIABLE: str(EXTERNAL_FOLDER)}  # finds our trainers without registration
DATA = Path(__file__).parents[3] / "shared" / "data"
Process = subprocess.Popen | ForkedCommand
TINY_PLANS = "Tiny"
TINY = (  # options of nnunet-diffusion plan
    *("--base-features", 4, "--blocks-per-stage", 1, "--batch-size", 2, "--timesteps", 1, 50, 400),
    *("--hidden-features", 8, "--pretraining-epochs", 1, "--pretraining-iterations", 4),
    *("--pretraining-batch-size", 2, "--epochs", 1, "--iterations", 4),
)
FEW_SAMPLES = {"pretraining.num_samples": 2, "pretraining.num_sampling_steps": 2}
SHOWN_LINES = 40
TIMEOUT_SECONDS = 900
# OpenMP's spinning slows torch down up to ten times where cores are shared; workers cost more to start than they
# save here.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "nnUNet_n_proc_DA": "0",
    "nnUNet_def_n_proc": "1",
    "nnUNet_npp": "0",  # prediction in one process
    "nnUNet_nps": "0",
    "nnUNet_compile": "f",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Workplace:
    """A folder with nnU-Net's three folders in it, and commands that run there on data set 1.

    `external`: nnU-Net finds our trainers by its variable, without registration.
    """

    root: Path
    dataset: str
    external: bool = False

    def __post_init__(self) -> None:
        for folder in (self.raw, self.preprocessed, self.results, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def plans(self, name: str) -> Path:
        return self.preprocessed / self.dataset / f"{name}.json"

    def trained(self, trainer: str, plans: str, configuration: str = "2d") -> Path:
        """Folder of a trained model, with a folder for each fold."""
        return self.results / self.dataset / f"{trainer}__{plans}__{configuration}"

    @property
    def variables(self) -> dict[str, str]:
        """What nnU-Net reads from the environment."""
        folders = {"raw": self.raw, "preprocessed": self.preprocessed, "results": self.results}
        external = EXTERNAL if self.external else {}
        return SETTINGS | external | {f"nnUNet_{name}": str(folder) for name, folder in folders.items()}

    def run(self, *command: object, fails: bool = False, **variables: str) -> str:
        """Runs a command of the environment to its end and returns what it printed; fails if it does."""
        with self._log(command).open("w+") as log:
            process = self._start(command, log, variables)
            try:
                status = process.wait(TIMEOUT_SECONDS)
            finally:
                kill(process)
            log.seek(0)
            output = log.read()
        if (status != 0) != fails:
            pytest.fail(_what_went_wrong(command, status, output), pytrace=False)
        return output

    def train(
        self, trainer: str, plans: str, fold: object, *options: object, configuration: str = "2d", fails: bool = False
    ) -> str:
        """`nnUNetv2_train` on the CPU."""
        return self.run(*training(trainer, plans, fold, configuration), *options, fails=fails)

    def predict(
        self, plans: str, images: Path, output: Path, *options: object, folds: object = 0, configuration: str = "2d"
    ) -> Path:
        """`nnUNetv2_predict` with the ensemble, on the CPU."""
        model = ["-d", 1, "-c", configuration, "-tr", ENSEMBLE, "-p", plans, "-f", *str(folds).split()]
        self.run("nnUNetv2_predict", *model, "-i", images, "-o", output, "-device", "cpu", *options)
        return output

    def mean_dice(self, labels: Path, predictions: Path) -> float:
        """Mean Dice over foreground labels and cases by `nnUNetv2_evaluate_folder`."""
        described = ["-djfile", predictions / "dataset.json", "-pfile", predictions / "plans.json"]
        self.run("nnUNetv2_evaluate_folder", labels, predictions, *described, "-np", 1)
        return mean_dice(predictions / "summary.json")

    def run_until(self, text: str, *command: object) -> None:
        """Runs a command until it has printed a text, and then kills it as `kill -9` does."""
        log_file = self._log(command)
        self.kill_when(lambda: text in log_file.read_text(), *command)

    def kill_when(self, is_reached: Callable[[], bool], *command: object) -> None:
        """Runs a command until something is so, and then kills it as `kill -9` does; fails if it ends before."""
        log_file = self._log(command)
        with log_file.open("w") as log:
            process = self._start(command, log, {})
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not (reached := is_reached()) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            ended = process.poll()
            kill(process)
        if ended is not None or not reached:
            what = _what_went_wrong(command, ended, log_file.read_text())
            pytest.fail(f"Should have been killed before its end.\n{what}", pytrace=False)

    def _start(self, command: tuple[object, ...], log: Any, variables: Mapping[str, str]) -> Process:
        name, *arguments = words = [str(word) for word in command]
        environment = os.environ | self.variables | variables
        if can_be_forked(words) and "PYTHONPATH" not in variables:  # which would import other modules
            return ForkedCommand(words, environment, self.root, log)
        return subprocess.Popen(
            [str(Path(sys.executable).with_name(name)), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.root,
            env=environment,
            start_new_session=True,
        )

    def _log(self, command: tuple[object, ...]) -> Path:
        return self.logs / f"{len(list(self.logs.iterdir())):02d}_{command[0]}.txt"


def training(trainer: str, plans: str, fold: object, configuration: str = "2d") -> list[object]:
    """Command that trains on the CPU."""
    return ["nnUNetv2_train", 1, configuration, fold, "-tr", trainer, "-p", plans, "-device", "cpu"]


def kill(process: Process) -> None:
    """Kills a process and its children, if there are any left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _what_went_wrong(command: tuple[object, ...], status: int | None, output: str) -> str:
    tail = "\n".join(output.splitlines()[-SHOWN_LINES:])
    return f"{' '.join(map(str, command))}\nended with status {status}. The end of its output:\n{tail}"


def change_plans(file: Path, name: str, changes: Mapping[str, Any]) -> Path:
    """Writes plans under another name, with settings of every configuration's `diffusion` changed by dotted path."""
    plans = json.loads(file.read_text())
    plans["plans_name"] = name
    for configuration in plans["configurations"].values():
        for path, value in changes.items():
            *parents, key = path.split(".")
            settings = configuration["diffusion"]
            for parent in parents:
                settings = settings[parent]
            assert key in settings, path
            settings[key] = value
    changed = file.with_name(f"{name}.json")
    changed.write_text(json.dumps(plans))
    return changed


def write_rectangles(folder: Path, cases: Sequence[str]) -> None:
    """A raw data set. Grey noise with brighter rectangles, which are the label; three images have none."""
    random = np.random.RandomState(0)
    for name in ("imagesTr", "labelsTr", "imagesUn"):
        (folder / name).mkdir(parents=True)
    for i, case in enumerate([*cases, "other_0", "other_1", "other_2"]):
        label = np.zeros((32, 40), np.uint8)
        label[4 + i : 18 + i, 6 + i : 25] = 1
        image = (80 + 80 * label + random.normal(0, 10, label.shape)).astype(np.uint8)
        Image.fromarray(image).save(folder / ("imagesTr" if case in cases else "imagesUn") / f"{case}_0000.png")
        if case in cases:
            Image.fromarray(label).save(folder / "labelsTr" / f"{case}.png")
    labels = {"background": 0, "rectangle": 1}
    dataset = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": len(cases), "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(dataset))


@contextmanager
def registration() -> Iterator[None]:
    """Our classes registered with nnU-Net, and afterwards everything as it was before."""
    if all(status.state == "current" for status in shim_states()):
        yield
        return
    program = Path(sys.executable).with_name("nnunet-diffusion")
    subprocess.run([program, "register"], check=True)
    try:
        yield
    finally:
        subprocess.run([program, "register", "--undo"], check=True)


def mean_dice(summary: Path) -> float:
    """Mean Dice over labels and cases in nnU-Net's summary.json."""
    return json.loads(summary.read_text())["foreground_mean"]["Dice"]
