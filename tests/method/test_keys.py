"""What the settings say of themselves: descriptions, the table in the docs, and choices that the code knows."""

from pathlib import Path
from typing import get_args

import pytest
from imports import imported_by

from nnunet_diffusion_ensemble.denoiser.schedule import PREDICTION_TYPES, SCHEDULES
from nnunet_diffusion_ensemble.method import (
    FROM_CHECKPOINT,
    DenoiserSettings,
    EnsembleSettings,
    HeadSettings,
)
from nnunet_diffusion_ensemble.method.keys import Key, keys
from nnunet_diffusion_ensemble.method.table import START, main, with_table
from nnunet_diffusion_ensemble.network.averaging import AVERAGE
from nnunet_diffusion_ensemble.network.heads import ADD_UP
from nnunet_diffusion_ensemble.planning.options import PlanningOptions

PLANS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "plans.md"
ALL = {key.path: key for key in keys()}


@pytest.mark.parametrize("key", [*ALL.values(), *keys(PlanningOptions)], ids=lambda key: key.path)
def test_every_key_has_a_description_and_says_what_is_allowed(key: Key) -> None:
    assert key.description
    assert key.allowed


@pytest.mark.parametrize(
    ("path", "allowed", "default", "value_type", "is_list"),
    [
        ("pretraining.ema_decay", "a number of at least 0 and below 1", "0.9999", float, False),
        ("pretraining.max_hours", "a number above 0, or null", "null", float, False),
        ("ensemble.adds_noise", "true or false", "true", bool, False),
        ("ensemble.head.hidden_features", "a list, each a whole number of at least 1", "[128, 32]", int, True),
        ("ensemble.head.kernel_size", "an odd whole number of at least 1", "3", int, False),
        ("mirror_axes", "a list, each a whole number from 0 to 2, or null", "null", int, True),
        ("denoiser.schedule", "cosine, linear or checkpoint", '"cosine"', str, False),
        ("denoiser.library.name", "diffusers, monai or guided_diffusion", "", str, False),
    ],
)
def test_a_key_is_described_in_words(path: str, allowed: str, default: str, value_type: type, is_list: bool) -> None:
    key = ALL[path]
    assert (key.allowed, key.default, key.value_type, key.is_list) == (allowed, default, value_type, is_list)


def test_the_table_in_the_docs_is_that_of_the_settings() -> None:
    page = PLANS_PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run python -m nnunet_diffusion_ensemble.method.table docs/reference/plans.md"


def test_the_table_of_a_page_is_written_anew_and_all_else_stays(tmp_path: Path) -> None:
    page = tmp_path / "plans.md"
    page.write_text(PLANS_PAGE.read_text().replace("| `mirror_axes` |", "| `outdated` |"))
    main(page)
    assert page.read_text() == PLANS_PAGE.read_text()


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="must have the lines"):
        with_table(f"{START}\n but no end\n")


@pytest.mark.parametrize(
    ("model", "key", "known"),
    [
        (DenoiserSettings, "schedule", {*SCHEDULES, FROM_CHECKPOINT}),
        (DenoiserSettings, "prediction_type", set(PREDICTION_TYPES)),
        (HeadSettings, "interpolation", set(ADD_UP)),
        (EnsembleSettings, "averaging", set(AVERAGE)),
    ],
)
def test_choices_are_those_that_the_code_has(model: type, key: str, known: set[str]) -> None:
    assert set(get_args(model.model_fields[key].annotation)) == known


def test_settings_are_read_without_torch_or_numpy() -> None:
    code = "from nnunet_diffusion_ensemble.method import DiffusionMethod; DiffusionMethod()"
    assert imported_by(code, ["torch", "nnunetv2", "numpy", "pydantic"]) == {"pydantic"}
