"""The student's data set: what lies where, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from self_training_data import LABELLED, NAME, UNLABELLED, save_png, square
from shards_data import move_into_shard

from nnunet_diffusion_ensemble.self_training.dataset import StudentDataset, link_or_copy, name_pretraining
from nnunet_diffusion_ensemble.self_training.images import find_images
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, Teacher, TeacherFold
from nnunet_diffusion_ensemble.training.self_training import SelfTrainingData

STUDENT = "Dataset101_LungsSelfTrained1"


@pytest.fixture
def dataset(hospital: Path, labelled: LabelledCases, unlabelled_images: dict) -> StudentDataset:
    """With two pseudo-labels."""
    pseudo_labels = hospital / "pseudo_labels"
    for case in ("un_0", "un_2"):
        save_png(2 * square(30), pseudo_labels / f"{case}.png")
    description = SelfTrainingData(("un_0", "un_2"), {"0": "teacher.pth"}, 0.15, "run", NAME)
    folds = [TeacherFold(("case_0", "case_1"), ("case_2",))]
    return StudentDataset(STUDENT, labelled, unlabelled_images, ("un_0", "un_2"), pseudo_labels, folds, description)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_images_and_labels_of_true_and_accepted_cases_lie_in_it(hospital: Path, dataset: StudentDataset) -> None:
    dataset.write(0.5)
    raw = hospital / "raw" / STUDENT
    cases = {*LABELLED, "un_0", "un_2"}
    assert names(raw / "imagesTr") == {f"{case}_0000.png" for case in cases}
    assert names(raw / "labelsTr") == {f"{case}.png" for case in cases}
    assert names(raw / "imagesUn") == {f"{case}_0000.png" for case in set(UNLABELLED) - {"un_0", "un_2"}}
    assert np.array_equal(np.asarray(Image.open(raw / "labelsTr" / "un_0.png")), 2 * square(30))
    original = hospital / "raw" / NAME / "labelsTr" / "case_1.png"
    assert (raw / "labelsTr" / "case_1.png").read_bytes() == original.read_bytes()


def test_dataset_json_has_the_ignore_label_and_the_number_of_cases(hospital: Path, dataset: StudentDataset) -> None:
    dataset.write(0.5)
    content = json.loads((hospital / "raw" / STUDENT / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lung": 1, "ignore": 2}
    assert content["numTraining"] == 5


def test_validation_has_the_true_labels_of_the_teachers_fold(hospital: Path, dataset: StudentDataset) -> None:
    dataset.write(0.5)
    (split,) = json.loads((hospital / "raw" / STUDENT / "splits_final.json").read_text())
    assert sorted(split["train"]) == ["case_0", "case_1", "un_0", "un_2"]
    assert split["val"] == ["case_2"]


def test_writing_again_leaves_nothing_of_before(hospital: Path, dataset: StudentDataset) -> None:
    dataset.write(0.5)
    (hospital / "raw" / STUDENT / "labelsTr" / "old.png").touch()
    dataset.write(0.5)
    assert "old.png" not in names(hospital / "raw" / STUDENT / "labelsTr")


def test_a_data_set_that_cannot_be_written_is_not_there(hospital: Path, dataset: StudentDataset) -> None:
    (dataset.pseudo_labels / "un_0.png").unlink()
    with pytest.raises(FileNotFoundError, match="un_0"):
        dataset.write(0.5)
    assert not (hospital / "raw" / STUDENT).exists()


def test_where_links_are_not_allowed_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("A required privilege is not held by the client")

    (tmp_path / "a").write_text("content")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").read_text() == "content"


@pytest.mark.parametrize(
    ("named", "is_there", "expected"), [(None, True, "its own"), ("x", True, "x"), (None, False, None)]
)
def test_plans_of_a_student_name_the_denoiser_of_the_labelled_data_set(
    hospital: Path, named: str | None, is_there: bool, expected: str | None
) -> None:
    file = hospital / "results" / NAME / "DiffusionPretrainTrainer__Plans__2d" / "fold_all" / "checkpoint_final.pth"
    if is_there:
        file.parent.mkdir(parents=True)
        file.touch()
    plans = hospital / "Plans.json"
    configurations = {"2d": {"diffusion": {"pretrained_checkpoint": named}}}
    plans.write_text(json.dumps({"plans_name": "Plans", "configurations": configurations}))
    name_pretraining(plans, NAME, "2d")
    found = json.loads(plans.read_text())["configurations"]["2d"]["diffusion"]["pretrained_checkpoint"]
    assert found == (str(file) if expected == "its own" else expected)


def test_plans_of_stock_trainers_stay_as_they_are(hospital: Path) -> None:
    plans = hospital / "Plans.json"
    plans.write_text('{"plans_name": "Plans", "configurations": {"2d": {}}}')
    name_pretraining(plans, NAME, "2d")
    assert plans.read_text() == '{"plans_name": "Plans", "configurations": {"2d": {}}}'


# ---- what it is made from


def test_images_of_further_folders_are_found_beside_those_of_the_data_set(
    hospital: Path, labelled: LabelledCases
) -> None:
    save_png(square(3), hospital / "new" / "new_0_0000.png")
    assert [*find_images(labelled, [hospital / "new"])] == ["new_0", *UNLABELLED]


NOT_FOUND = [
    ("nowhere", None, FileNotFoundError, "There is no folder"),
    ("new", "readme.txt", ValueError, "holds no image named CASE_0000.png"),
    ("new", "a_0001.png", ValueError, "numbered from _0000"),
    ("new", "un_1_0000.png", ValueError, "un_1 is another case as well"),
    ("new", "case_1_0000.png", ValueError, "case_1 is another case as well"),
]


@pytest.mark.parametrize(("folder", "file", "error", "message"), NOT_FOUND)
def test_images_that_cannot_be_used_are_refused(
    hospital: Path, labelled: LabelledCases, folder: str, file: str | None, error: type[Exception], message: str
) -> None:
    if file is not None:
        save_png(square(3), hospital / folder / "dummy.png")
        (hospital / folder / "dummy.png").rename(hospital / folder / file)
    with pytest.raises(error, match=message):
        find_images(labelled, [hospital / folder])


def test_without_any_unlabelled_image_it_says_where_to_put_some(hospital: Path, labelled: LabelledCases) -> None:
    for file in (hospital / "raw" / NAME / "imagesUn").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"put some into .*imagesUn, or name a folder with --images"):
        find_images(labelled, [])


def test_shards_are_refused_with_what_to_do(hospital: Path, labelled: LabelledCases) -> None:
    folder = hospital / "raw" / NAME / "imagesUn"
    move_into_shard(folder / "all.tar", folder.iterdir())
    with pytest.raises(ValueError, match=r"holds shards: all\.tar\. Unpack .*tar -xf SHARD -C .*imagesUn"):
        find_images(labelled, [])


def test_true_labels_of_a_fold_are_those_of_the_splits(labelled: LabelledCases) -> None:
    assert labelled.folds((1,)) == [TeacherFold(("case_0", "case_1"), ("case_2",))]
    assert labelled.folds(("all",)) == [TeacherFold(LABELLED, LABELLED)]


def test_a_fold_that_is_not_there_is_refused(labelled: LabelledCases) -> None:
    with pytest.raises(ValueError, match="has 2 folds, and none of the number 2"):
        labelled.folds((2,))


def test_a_teacher_of_other_labels_is_refused(hospital: Path, teacher: Teacher) -> None:
    described = json.loads((teacher.folder / "dataset.json").read_text())
    (teacher.folder / "dataset.json").write_text(json.dumps(described | {"labels": {"background": 0, "heart": 1}}))
    with pytest.raises(ValueError, match="it is of another data set"):
        LabelledCases.of(teacher)


def test_a_labelled_data_set_that_is_gone_is_named(hospital: Path, teacher: Teacher) -> None:
    (hospital / "raw" / NAME).rename(hospital / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"There is no .*{NAME}: .* images and labels that the teacher"):
        LabelledCases.of(teacher)
