"""When, on what and for how long a trained model was at work on a domain, noted beside its tables."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.environment import versions_and_hardware
from nnunet_diffusion_ensemble.system.records import read_record, write_record

WORK = "work.json"
PREDICTING, EVALUATING = STEPS = ("predicting", "evaluating")


def note_work(folder: Path, step: str, num_cases: int, seconds: float) -> None:
    """Notes the end of a step, which replaces what was noted of it before.

    Args:
        folder: of one model and seed on one domain.
        step: one of STEPS.
        num_cases: that were predicted or evaluated; not those that were there before.
        seconds: it took.
    """
    note = {"cases": num_cases, "seconds": round(seconds, 3), "environment": versions_and_hardware()}
    write_record(folder / WORK, {**read_work(folder), step: {"finished": _now(), **note}})


def read_work(folder: Path) -> Mapping[str, Any]:
    """What was noted, by step; empty for results of older versions."""
    return read_record(folder / WORK) or {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
