"""The table of a round: every image with its numbers, verdict and reason."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_diffusion_ensemble.self_training.image_rule import Areas, Verdict
from nnunet_diffusion_ensemble.system.atomic import whole_file

TABLE = "images.csv"
ACCEPTED, REJECTED = "accepted", "rejected"
AREA = "area_"


def write_table(verdicts: Sequence[Verdict], kept_pixels: Mapping[str, float], folder: Path) -> None:
    """Writes `images.csv`, numbers with six digits."""
    rows = [_row(verdict, kept_pixels[verdict.candidate.case]) for verdict in verdicts]
    with whole_file(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _row(verdict: Verdict, kept_pixels: float) -> dict[str, str]:
    candidate = verdict.candidate
    dice = "" if candidate.timestep_dice is None else f"{candidate.timestep_dice:.6g}"
    return {
        "case": candidate.case,
        "verdict": ACCEPTED if verdict.is_accepted else REJECTED,
        "reason": "; ".join(verdict.reasons),
        "timestep_dice": dice,
        "entropy": f"{candidate.entropy:.6g}",
        "kept_pixels": f"{kept_pixels:.6g}",
        **{f"{AREA}{name}": f"{area:.6g}" for name, area in candidate.areas.items()},
    }


def read_image_table(folder: Path) -> tuple[list[str], dict[str, Areas]]:
    """The cases that are trained on, and the areas of all."""
    with (folder / TABLE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    accepted = [row["case"] for row in rows if row["verdict"] == ACCEPTED]
    areas: dict[str, Areas] = {
        str(row["case"]): {name.removeprefix(AREA): float(row[name]) for name in row if name.startswith(AREA)}
        for row in rows
    }
    return accepted, areas
