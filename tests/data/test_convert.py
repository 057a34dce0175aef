"""Folders of PNGs as an nnU-Net data set: tiny images with worked results, every refusal, and real X-rays."""

import json
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.utilities.utils import (
    create_lists_from_splitted_dataset_folder,
    get_identifiers_from_splitted_dataset_folder,
)
from PIL import Image

from nnunet_diffusion_ensemble.data import convert as module
from nnunet_diffusion_ensemble.data.convert import convert, dataset_folder

MONTGOMERY = Path(__file__).parents[3] / "shared" / "data" / "cxr" / "montgomery"
GREY = np.array([[0, 10, 20], [30, 40, 50]], np.uint8)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], -1)
MASK = np.array([[0, 255, 255], [0, 0, 0]], np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def dataset_json(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save(tmp_path / "images" / "a.png", GREY).parent


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return save(tmp_path / "masks" / "a.png", MASK).parent


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    return save(tmp_path / "pool" / "u.png", GREY).parent


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "Dataset001_Lungs"


def test_files_lie_where_nnunet_looks_for_them(images, masks, unlabelled, output, tmp_path):
    test_images = save(tmp_path / "new" / "t.png", GREY).parent
    report = convert(images, masks, [unlabelled], output, test_images=test_images)
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    expected = {"imagesTr/a_0000.png", "labelsTr/a.png", "imagesUn/u_0000.png", "imagesTs/t_0000.png"}
    assert written == expected | {"dataset.json", "conversion.json"}
    assert (report.n_labelled, report.n_unlabelled, report.n_test) == (1, 1, 1)
    assert [path.name for path in output.parent.iterdir()] == ["Dataset001_Lungs"]


def test_dataset_json_describes_a_grey_data_set(images, masks, output):
    convert(images, masks, [], output, labels={"lung": 255}, channel_name="rescale_to_0_1")
    written = dataset_json(output)
    assert written["channel_names"] == {"0": "rescale_to_0_1"}
    assert written["labels"] == {"background": 0, "lung": 1}
    assert (written["numTraining"], written["file_ending"]) == (1, ".png")


def test_report_says_what_was_done(images, masks, output):
    report = convert(images, masks, [], output)
    assert report.label_fractions == pytest.approx({"background": 4 / 6, "foreground": 2 / 6})
    assert str(report).splitlines() == [
        f"Wrote {output}: 1 labelled, 0 unlabelled, 0 test images; channels: grey.",
        "Sizes (height x width): 2 x 3 to 2 x 3, kept.",
        "Label 0: background, mask value 0, 66.67% of the pixels.",
        "Label 1: foreground, mask value 255, 33.33% of the pixels.",
        "Note: mask value 255 became label 1 (foreground).",
    ]


@pytest.mark.parametrize(
    ("values", "labels", "names", "expected"),
    [
        ([0, 255, 255], None, {"background": 0, "foreground": 1}, [0, 1, 1]),
        ([0, 1, 0], None, {"background": 0, "foreground": 1}, [0, 1, 0]),
        ([2, 0, 1], None, {"background": 0, "label_1": 1, "label_2": 2}, [2, 0, 1]),
        ([0, 64, 128], {"lung": 128, "heart": 64}, {"background": 0, "heart": 1, "lung": 2}, [0, 1, 2]),
        ([0, 2, 1], {"b": 2, "a": 1}, {"background": 0, "a": 1, "b": 2}, [0, 2, 1]),
        ([7, 9, 7], {"background": 9, "lung": 7}, {"background": 0, "lung": 1}, [1, 0, 1]),
        ([0, 5, 9], {"ignore": 5, "lung": 9}, {"background": 0, "lung": 1, "ignore": 2}, [0, 2, 1]),
    ],
)
def test_mask_values_become_consecutive_labels(images, output, tmp_path, values, labels, names, expected):
    masks = save(tmp_path / "masks" / "a.png", np.array([values, values], np.uint8)).parent
    convert(images, masks, [], output, labels=labels)
    assert dataset_json(output)["labels"] == names
    assert load(output / "labelsTr" / "a.png").tolist() == [expected, expected]


def test_a_label_no_mask_holds_is_reported(images, masks, output):
    report = convert(images, masks, [], output, labels={"lung": 255, "heart": 128})
    assert "no mask holds the value 128 of heart" in report.changes


def test_colour_images_read_back_as_three_channels(masks, output, tmp_path):
    images = save(tmp_path / "images" / "a.png", COLOUR).parent
    convert(images, masks, [], output)
    pixels, _ = NaturalImage2DIO().read_images([str(output / "imagesTr" / "a_0000.png")])
    assert dataset_json(output)["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert np.array_equal(pixels[:, 0], [GREY, GREY + 1, GREY + 2])


def test_grey_images_stored_as_rgb_become_grey(masks, output, tmp_path):
    images = save(tmp_path / "images" / "a.png", np.stack([GREY] * 3, -1)).parent
    report = convert(images, masks, [], output)
    assert np.array_equal(load(output / "imagesTr" / "a_0000.png"), GREY)
    assert report.changes[0] == "RGB images with three equal channels were stored as grey"


def test_a_grey_photograph_among_colour_ones_stays_rgb(output, tmp_path):
    folder = save(tmp_path / "pool" / "a.png", COLOUR).parent
    save(folder / "b.png", np.stack([GREY] * 3, -1))
    convert(None, None, [folder], output)
    assert load(output / "imagesUn" / "b_0000.png").shape == (2, 3, 3)


def test_sixteen_bit_images_keep_every_value(output, tmp_path):
    pixels = np.array([[0, 300], [40000, 65535]], np.uint16)
    folder = save(tmp_path / "pool" / "png.png", pixels).parent
    save(folder / "tiff.tif", pixels)
    convert(None, None, [folder], output)
    for name in ("png_0000.png", "tiff_0000.png"):
        read, _ = NaturalImage2DIO().read_images([str(output / "imagesUn" / name)])
        assert np.array_equal(read[0, 0], pixels)


def test_jpeg_images_are_stored_as_they_decode(output, tmp_path):
    photograph = save(tmp_path / "pool" / "u.JPG", GREY)
    convert(None, None, [photograph.parent], output)
    assert np.array_equal(load(output / "imagesUn" / "u_0000.png"), load(photograph))


def test_mixed_bit_depths_are_reported(unlabelled, output):
    save(unlabelled / "deep.png", GREY.astype(np.uint16))
    (change,) = convert(None, None, [unlabelled], output).changes
    assert change.startswith("8-bit and 16-bit images are mixed")


def test_an_opaque_alpha_channel_is_dropped(output, tmp_path):
    opaque = np.concatenate([COLOUR, np.full((2, 3, 1), 255, np.uint8)], -1)
    report = convert(None, None, [save(tmp_path / "pool" / "u.png", opaque).parent], output)
    assert np.array_equal(load(output / "imagesUn" / "u_0000.png"), COLOUR)
    assert report.changes == ("1 of 1 images: opaque alpha channel dropped",)


def test_one_bit_masks_are_foreground_and_background(images, output, tmp_path):
    masks = save(tmp_path / "masks" / "a.png", MASK > 0).parent
    convert(images, masks, [], output)
    assert load(output / "labelsTr" / "a.png").tolist() == [[0, 1, 1], [0, 0, 0]]


def test_resizing_averages_images_and_picks_mask_pixels(output, tmp_path):
    image = np.kron(np.array([[10, 20], [30, 40]]), np.ones((8, 8))).astype(np.uint8)
    images = save(tmp_path / "images" / "a.png", image).parent
    masks = save(tmp_path / "masks" / "a.png", np.kron([[0, 1], [2, 0]], np.ones((8, 8))).astype(np.uint8)).parent
    report = convert(images, masks, [], output, resize=(1, 1))
    assert load(output / "imagesTr" / "a_0000.png").tolist() == [[25]]
    assert report.largest_px == (16, 16)
    convert(images, masks, [], output, resize=(2, 4), overwrite=True)
    assert load(output / "imagesTr" / "a_0000.png").shape == (2, 4)
    assert load(output / "labelsTr" / "a.png").tolist() == [[0, 0, 1, 1], [2, 2, 0, 0]]


def test_a_suffix_chooses_among_the_masks_of_a_folder(images, output, tmp_path):
    masks = save(tmp_path / "masks" / "a_lung.png", MASK).parent
    save(masks / "a_heart.png", 255 - MASK)
    convert(images, masks, [], output, mask_suffix="_lung")
    assert load(output / "labelsTr" / "a.png").tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("stems", "cases"),
    [
        (["a_0000", "b_0000"], ["a", "b"]),
        (["film_0000", "film_0001"], ["film_0000", "film_0001"]),
        (["1.2.840", "with space"], ["1.2.840", "with space"]),
    ],
)
def test_case_names_survive_nnunets_channel_index(images, masks, output, tmp_path, stems, cases):
    for stem in stems:
        save(tmp_path / "images" / f"{stem}.png", GREY)
        save(tmp_path / "masks" / f"{stem}.png", MASK)
    for folder in (images, masks):
        (folder / "a.png").unlink()
    convert(images, masks, [], output)
    found = get_identifiers_from_splitted_dataset_folder(str(output / "imagesTr"), ".png")
    files = create_lists_from_splitted_dataset_folder(str(output / "imagesTr"), ".png", found, num_processes=1)
    assert sorted(found) == sorted(path.stem for path in (output / "labelsTr").iterdir()) == cases
    assert [len(channels) for channels in files] == [1, 1]


def test_a_data_set_without_labels_holds_only_unlabelled_images(unlabelled, output):
    report = convert(None, None, [unlabelled], output)
    assert sorted(path.name for path in output.iterdir()) == ["conversion.json", "dataset.json", "imagesUn"]
    assert (dataset_json(output)["numTraining"], dataset_json(output)["labels"]) == (0, {"background": 0})
    assert "Label" not in str(report)


def test_other_files_are_left_out_with_a_note(unlabelled, output):
    (unlabelled / "notes.txt").write_text("hello")
    (change,) = convert(None, None, [unlabelled], output).changes
    assert change == f"left out of {unlabelled}: notes.txt"


def test_overwrite_replaces_all_of_the_old_data_set(images, masks, unlabelled, output):
    convert(images, masks, [unlabelled], output)
    convert(None, None, [unlabelled], output, overwrite=True)
    assert not (output / "imagesTr").exists()
    assert [path.name for path in output.parent.iterdir()] == ["Dataset001_Lungs"]


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_data_set(unlabelled, output, monkeypatch, failure):
    convert(None, None, [unlabelled], output)
    before = (output / "dataset.json").read_text()

    def fail(*args: object) -> None:
        raise failure

    monkeypatch.setattr(module, "_write_json", fail)
    with pytest.raises(type(failure)):
        convert(None, None, [unlabelled], output, overwrite=True)
    assert (output / "dataset.json").read_text() == before
    assert [path.name for path in output.parent.iterdir()] == ["Dataset001_Lungs"]


def assert_refused(pattern: str, output: Path, *args: object, error: type[Exception] = ValueError, **options: object):
    with pytest.raises(error, match=pattern):
        convert(*args, output, **options)
    assert not output.parent.exists() or not list(output.parent.glob(".*"))


@pytest.mark.parametrize(
    ("spoil", "pattern"),
    [
        (lambda folder: save(folder / "images" / "b.png", GREY), "Images without a mask"),
        (lambda folder: save(folder / "images" / "a.png", GREY.T.copy()), "give both the same size"),
        (lambda folder: (folder / "images" / "a.png").write_text("text"), "a.png cannot be read"),
        (lambda folder: save(folder / "images" / "a.png", np.zeros((2, 3, 4), np.uint8)), "partly transparent"),
        (lambda folder: save(folder / "pool" / "u.png", COLOUR), "Grey and colour images are mixed"),
        (lambda folder: save(folder / "pool" / "a.png", GREY), "are both called a: rename"),
        (lambda folder: save(folder / "masks" / "a.png", MASK // 255 * 3), "The masks hold the values 0, 3"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_written(
    images, masks, unlabelled, output, tmp_path, spoil, pattern
):
    spoil(tmp_path)
    assert_refused(pattern, output, images, masks, [unlabelled])
    assert not output.parent.exists()


def test_labels_that_do_not_fit_are_refused_before_anything_is_written(images, masks, output):
    assert_refused("without a name: 255", output, images, masks, [], labels={"lung": 1})
    assert not output.parent.exists()


def test_requests_that_make_no_sense_are_refused(images, masks, unlabelled, output):
    together = "images together with masks"
    assert_refused(together, output, images, None, [])
    assert_refused(together, output, None, masks, [unlabelled])
    assert_refused(together, output, None, None, [])
    assert_refused("there are no masks", output, None, None, [unlabelled], labels={"lung": 1})
    assert_refused(r"resize is \(height, width\).*not \(0, 5\)", output, images, masks, [], resize=(0, 5))
    assert_refused("give the mask_suffix", output, images, images, [])
    assert_refused("gone is not a folder", output, images / "gone", masks, [], error=FileNotFoundError)


def test_an_output_that_holds_files_is_refused(unlabelled, output):
    save(output / "precious.png", GREY)
    assert_refused("already holds files: .*overwrite", output, None, None, [unlabelled], error=FileExistsError)
    assert (output / "precious.png").is_file()


def test_an_empty_output_folder_is_filled(unlabelled, output):
    output.mkdir(parents=True)
    convert(None, None, [unlabelled], output)
    assert (output / "dataset.json").is_file()


def test_overwriting_the_source_images_is_refused(output):
    inside = save(output / "png" / "a.png", GREY).parent
    assert_refused("png lies inside the output", output, None, None, [inside], overwrite=True)
    assert (inside / "a.png").is_file()


def test_dataset_folder_lies_in_nnunet_raw(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert dataset_folder("Dataset012_Heart-and.Lung") == tmp_path / "Dataset012_Heart-and.Lung"


@pytest.mark.parametrize("name", ["Lungs", "Dataset1_Lungs", "Dataset0001_Lungs", "Dataset001", "Dataset001_a/b"])
def test_names_nnunet_does_not_find_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.raises(ValueError, match="use three digits"):
        dataset_folder(name)


def test_a_number_that_is_taken_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    (tmp_path / "Dataset001_Heart").mkdir()
    with pytest.raises(ValueError, match="001 is already taken by Dataset001_Heart"):
        dataset_folder("Dataset001_Lungs")


def test_a_missing_nnunet_raw_is_explained(monkeypatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(FileNotFoundError, match="export nnUNet_raw="):
        dataset_folder("Dataset001_Lungs")


@pytest.mark.slow
@pytest.mark.skipif(not MONTGOMERY.is_dir(), reason=f"the development images are not at {MONTGOMERY}")
def test_real_xrays_pass_nnunets_own_check(output, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((MONTGOMERY / kind).iterdir())[:5]:
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    report = convert(tmp_path / "images", tmp_path / "masks", [], output, labels={"lung": 255})
    verify_dataset_integrity(str(output), num_processes=1)
    first = next((output / "imagesTr").iterdir())
    assert determine_reader_writer_from_dataset_json(dataset_json(output), str(first)) is NaturalImage2DIO
    truth = [load(path) > 0 for path in (tmp_path / "masks").iterdir()]
    assert report.label_fractions["lung"] == pytest.approx(np.mean(truth))
    assert report.smallest_px == report.largest_px == (256, 256)
