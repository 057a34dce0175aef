"""The X-rays that ship with the package, and the hospitals that the demo makes of them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent / "sample"
LABELLED = "montgomery_labelled"


@dataclass(frozen=True)
class Hospital:
    """Cases to test on: folder below `xrays`, nnU-Net data set, role in the benchmark, and how it is called there."""

    name: str
    dataset: str
    role: str
    title: str

    @property
    def raw(self) -> str:
        return f"nnUNet_raw/{self.dataset}"


SOURCE = Hospital("montgomery_held_out", "Dataset002_MontgomeryHeldOut", "source", "Montgomery, held out")
TARGET = Hospital("shenzhen", "Dataset003_Shenzhen", "target", "Shenzhen, another hospital")


def sample_split() -> dict[str, list[str]]:
    """Montgomery's cases: six to train on (`train`), four that validate (`val`), twenty to test on (`test`)."""
    return json.loads((SAMPLE / "montgomery" / "split.json").read_text())


def lay_out_sample(folder: Path, cases_per_hospital: int, unlabelled_images: int) -> None:
    """Copies the sample's PNGs to `xrays`, as a user might have them: labelled, unlabelled, and two to test on.

    Args:
        folder: of the demo.
        cases_per_hospital: at most so many to test on.
        unlabelled_images: of ChestX-ray14; 0 for none.
    """
    xrays, split = folder / "xrays", sample_split()
    shutil.rmtree(xrays, ignore_errors=True)
    shenzhen = sorted(path.stem for path in (SAMPLE / "shenzhen" / "images").glob("*.png"))
    for source, name, cases in (
        ("montgomery", LABELLED, split["train"] + split["val"]),
        ("montgomery", SOURCE.name, split["test"][:cases_per_hospital]),
        ("shenzhen", TARGET.name, shenzhen[:cases_per_hospital]),
    ):
        for part in ("images", "masks"):
            (xrays / name / part).mkdir(parents=True)
            for case in cases:
                shutil.copy(SAMPLE / source / part / f"{case}.png", xrays / name / part)
    if unlabelled_images:
        (xrays / "nih").mkdir()
        for path in sorted((SAMPLE / "nih").glob("*.png"))[:unlabelled_images]:
            shutil.copy(path, xrays / "nih")
    shutil.copy(SAMPLE / "NOTICE.md", xrays)
