"""`nnunet-diffusion predict --dicom`: images that come as DICOM, and a DICOM SEG for each beside the other files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.dicom.cases import DicomCase, find_dicom_cases
from nnunet_diffusion_ensemble.dicom.codes import read_segment_codes
from nnunet_diffusion_ensemble.dicom.pixels import read_dicom_case
from nnunet_diffusion_ensemble.dicom.segmentation import Segment, segments_of, write_dicom_segmentation
from nnunet_diffusion_ensemble.dicom.write import write_dicom_image
from nnunet_diffusion_ensemble.images.reading import ImageError, read_segmentation
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.prediction.model_folder import named_regions, read_descriptions
from nnunet_diffusion_ensemble.prediction.predict import LeftOut, OnProblem, PredictedCase, predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.system.records import read_record, stamps, write_record

IMAGES, SEGMENTATIONS = "images", "dicom_seg"
SOURCES = "dicom_sources.json"  # from what the images were made


def predict_dicom(
    place: Path,
    output: Path,
    model_folder: Path,
    settings: PredictionSettings,
    denoiser: str | None = None,
    continue_prediction: bool = False,
    on_problem: OnProblem = "refuse",
    calibrated: bool = False,
    review_below: float | None = None,
    codes: Path | None = None,
) -> Iterator[PredictedCase | LeftOut]:
    """Predicts each X-ray and each series of a folder, as `predict` does, and writes `dicom_seg/CASE.dcm`.

    The images as nnU-Net reads them lie in `images`; `dicom.cases` says how cases are named.

    Args:
        place: folder, searched with all folders in it, or one file.
        output: folder to write.
        model_folder: of a model of one channel.
        settings: of `predict`.
        denoiser: of `predict`.
        continue_prediction: of `predict`.
        on_problem: of `predict`, also about files that cannot be read.
        calibrated: of `predict`.
        review_below: of `predict`.
        codes: what segments are, see `read_segment_codes`.

    Yields:
        each case when its files are there, and what is left out.

    Raises:
        ValueError: images, model or codes do not go together; files are named.
        FileNotFoundError: a folder or file is missing.
        RuntimeError: pydicom or highdicom is not installed.
        AtWorkError: another process predicts into this folder.
    """
    refuse_file(output)
    plans, dataset_json = read_descriptions(model_folder)
    regions = named_regions(plans.get_label_manager(dataset_json))
    segments = segments_of(regions, read_segment_codes(codes, regions))
    found = find_dicom_cases(place)
    _refuse_channels(found.cases, number_of_channels(dataset_json))
    problems = {name: str(problem) for name, problem in found.problems.items()}
    if on_problem == "refuse" or not found.cases:
        _refuse(problems)
    ending, reader = dataset_json["file_ending"], plans.image_reader_writer_class()
    output.mkdir(parents=True, exist_ok=True)
    with alone_in(output / IMAGES):
        problems |= _write_images(found.cases, output / IMAGES, ending)
    cases = {case.name: case for case in found.cases if case.name not in problems}
    if on_problem == "refuse" or not cases:
        _refuse(problems)
    yield from (LeftOut(str(file), what, is_problem=False) for file, what in found.others.items())
    yield from (LeftOut(name, problem) for name, problem in problems.items())
    options = (denoiser, continue_prediction, on_problem, calibrated, review_below, problems)
    for done in predict(output / IMAGES, output, model_folder, settings, *options):
        if isinstance(done, PredictedCase):
            _write_segmentation(cases[done.scores.case], output, ending, reader, segments, model_folder)
        yield done


def _refuse(problems: Mapping[str, str]) -> None:
    raise_listing("Correct or remove these, or leave them out with --on-problem skip:", list(problems.values()))


def _refuse_channels(cases: Sequence[DicomCase], expected: int) -> None:
    """A series is one channel: which of them belong together, nothing in DICOM says."""
    if cases and expected != 1:
        raise ImageError(
            [cases[0].files[0]],
            f"is one channel, the model was trained on {expected}. Convert the series with nnunet-diffusion convert "
            "--dicom, name those of a case CASE_0000, CASE_0001, ..., and predict these files without --dicom",
        )


def _write_images(cases: Sequence[DicomCase], folder: Path, ending: str) -> dict[str, str]:
    """Writes those that are not there yet, made from what is there now; returns what is wrong with others."""
    before = read_record(folder.parent / SOURCES) or {}
    problems, sources = {}, {}
    (folder.parent / SOURCES).unlink(missing_ok=True)  # nothing vouches for what is half written
    wanted = {f"{case.name}_0000{ending}" for case in cases}
    for file in folder.glob(f"*_0000{ending}"):
        if file.name not in wanted:
            file.unlink()  # of an earlier run on other images
    for case in cases:
        file = folder / f"{case.name}_0000{ending}"
        now = stamps(case.files)
        try:
            if before.get(case.name) != now or not file.is_file():
                file.unlink(missing_ok=True)
                write_dicom_image(read_dicom_case(case), file, ending)
            sources[case.name] = now
        except ImageError as error:
            problems[case.name] = str(error)
    write_record(folder.parent / SOURCES, sources)
    return problems


def _write_segmentation(
    case: DicomCase, output: Path, ending: str, reader: BaseReaderWriter, segments: Sequence[Segment], model: Path
) -> None:
    """Unless one is there that is no older than the label map that it is made from."""
    labels_file, file = output / f"{case.name}{ending}", output / SEGMENTATIONS / f"{case.name}.dcm"
    if file.is_file() and file.stat().st_mtime_ns >= labels_file.stat().st_mtime_ns:
        return
    labels, _ = read_segmentation(reader, labels_file)
    file.parent.mkdir(exist_ok=True)
    write_dicom_segmentation(file, labels.astype(int), read_dicom_case(case), segments, model.resolve().name)
