"""dataset.json with and without labels: what is read, what is refused."""

import json
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.nnunet.dataset_json import (
    MINIMAL,
    has_labels,
    read_dataset_json,
    refuse_labelled_cases,
    refuse_missing_labels,
)

LEAST = {"channel_names": {"0": "X-ray"}, "file_ending": ".png"}


def test_the_example_in_the_messages_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(MINIMAL)
    assert read_dataset_json(tmp_path) == LEAST


def test_a_missing_file_is_named_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*dataset\.json[^$]*\"file_ending\": \"\.png\""):
        read_dataset_json(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        (json.dumps({"file_ending": ".png"}), "lacks channel_names"),
        (json.dumps({"channel_names": {"0": "MRI"}}), "lacks file_ending"),
        (json.dumps({"channel_names": {}, "file_ending": ".png"}), "lacks channel_names"),
    ],
)
def test_an_unfit_file_is_refused_with_what_it_lacks(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_dataset_json(tmp_path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, False),
        ({"background": 0}, False),
        ({"background": 0, "ignore": 1}, False),
        ({"background": 0, "lung": 1}, True),
        ({"background": 0, "whole": [1, 2], "part": [2]}, True),
    ],
)
def test_only_labels_besides_background_and_ignore_count(labels: dict | None, expected: bool) -> None:
    assert has_labels(LEAST if labels is None else LEAST | {"labels": labels}) is expected


def test_labelled_cases_are_refused_where_there_should_be_none_and_missing_ones_where_there_should(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"no labelled image in imagesTr.*--unlabelled"):
        refuse_missing_labels(tmp_path, LEAST)
    refuse_labelled_cases(tmp_path, LEAST)
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.png").touch()
    with pytest.raises(ValueError, match=r"has 1 labelled case.*without --unlabelled"):
        refuse_labelled_cases(tmp_path, LEAST)
    refuse_missing_labels(tmp_path, LEAST)
