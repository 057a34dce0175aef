"""What several tests use: chains on X-rays, trained once for all, and tiny ones on any data set; and a browser."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributions import Distributions, build
from nnunet_commands import (
    ENSEMBLE,
    FEW_SAMPLES,
    PRETRAIN,
    TINY,
    TINY_PLANS,
    Workplace,
    change_plans,
    registration,
)
from xray_chain import DATASET, XRAYS, Chain, train_chain

BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chromium-headless-shell")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dev extra")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a Chromium: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Built once for all."""
    return build(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="session")
def xray_chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Trained with our classes registered, which they are not afterwards unless they were before."""
    if not XRAYS.is_dir():
        pytest.skip(f"needs the X-rays in {XRAYS}, which are not part of the repository")
    with registration():
        return train_chain(Workplace(tmp_path_factory.mktemp("xrays"), DATASET))


@pytest.fixture(scope="module")
def registered():
    """Our classes registered with nnU-Net during a module's tests."""
    with registration():
        yield


@dataclass(frozen=True)
class TinyChain:
    """Planning, training and prediction of a data set in `workplace.raw`; our classes need not be registered."""

    workplace: Workplace
    configuration: str
    variables: dict[str, str]

    @property
    def plans_file(self) -> Path:
        (dataset,) = self.workplace.raw.iterdir()
        return self.workplace.preprocessed / dataset.name / f"{TINY_PLANS}.json"

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration in the plans."""
        return json.loads(self.plans_file.read_text())["configurations"][self.configuration]

    def folder(self, trainer: str, fold: object) -> Path:
        name = f"{trainer}__{TINY_PLANS}__{self.configuration}"
        return self.workplace.results / self.plans_file.parent.name / name / f"fold_{fold}"

    def plan_and_preprocess(self, *options: object) -> None:
        self._run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", TINY_PLANS, *TINY, *options, "-np", 1)
        change_plans(self.plans_file, TINY_PLANS, FEW_SAMPLES)
        self._run("nnunet-diffusion", "preprocess", "-d", 1, "-p", TINY_PLANS, "-c", self.configuration, "-np", 1)

    def train(self) -> None:
        """Pretraining on all images, then the ensemble on fold 0."""
        for trainer, fold in ((PRETRAIN, "all"), (ENSEMBLE, 0)):
            model = ["-tr", trainer, "-p", TINY_PLANS, "-device", "cpu"]
            self._run("nnUNetv2_train", 1, self.configuration, fold, *model)

    def predict(self, images: Path) -> Path:
        output = self.workplace.root / "predictions"
        model = ["-d", 1, "-c", self.configuration, "-tr", ENSEMBLE, "-p", TINY_PLANS, "-f", 0, "-device", "cpu"]
        self._run("nnUNetv2_predict", *model, "-i", images, "-o", output)
        return output

    def _run(self, *command: object) -> None:
        self.workplace.run(*command, **self.variables)


@pytest.fixture(scope="module")
def make_chain(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TinyChain]:
    """`make_chain("2d")`; further variables for the commands' environment by name."""

    def make(configuration: str, **variables: str) -> TinyChain:
        workplace = Workplace(tmp_path_factory.mktemp("tiny"), "Dataset001", external=True)
        return TinyChain(workplace, configuration, variables)

    return make
