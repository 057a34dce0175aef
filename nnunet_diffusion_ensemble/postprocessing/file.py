"""What `nnunet-diffusion postprocessing` learned, in a file beside the model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from nnunet_diffusion_ensemble.system.allowed import WORDS
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.settings import Settings, Share, Text

LEARN = "Learn it with `nnunet-diffusion postprocessing`, of the same folds."


class LearnedPostprocessing(Settings):
    """What the file holds: by label, or region, the share of its largest component below which others are removed."""

    smallest_share_of_largest_component: dict[Text, Share] = Field(
        json_schema_extra={WORDS: "a number above 0 and at most 1 for each label: `lung: 0.2`"}
    )


def postprocessing_file(model_folder: Path, folds: Sequence[int | str]) -> Path:
    """Where it lies, of these folds; nnU-Net's `.pkl` of the same name is beside it."""
    return model_folder / f"postprocessing_folds_{'_'.join(map(str, folds))}.json"


def write_shares(shares: Mapping[str, float], file: Path) -> None:
    """Writes the file, whole or not at all."""
    learned = LearnedPostprocessing(smallest_share_of_largest_component=dict(shares))
    write_text(file, json.dumps(learned.to_json(), indent=4))


def read_shares(file: Path) -> dict[str, float]:
    """The share of the largest component that another one must have, by label or region.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    learned = LearnedPostprocessing.read(read_object(file, LEARN), where=str(file))
    return learned.smallest_share_of_largest_component
