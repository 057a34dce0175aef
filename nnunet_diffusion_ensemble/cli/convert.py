"""`nnunet-diffusion convert`: turn folders of PNGs or DICOM into an nnU-Net data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_diffusion_ensemble.cli.argument_types import positive

HELP = "turn folders of PNGs, or of DICOM, into an nnU-Net data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("dataset", help="name of the new data set, e.g. Dataset001_Lungs, made in nnUNet_raw")
    parser.add_argument("--images", type=Path, help="folder of images with masks")
    parser.add_argument("--masks", type=Path, help="folder of their masks, of the same names")
    parser.add_argument("--mask-suffix", default="", help="what mask names have after the image's name, e.g. _mask")
    parser.add_argument("--labels", nargs="+", metavar="NAME=VALUE", help="values in the masks, e.g. lung=255")
    parser.add_argument("--unlabelled", type=Path, nargs="+", default=[], help="folders of images without masks")
    parser.add_argument("--test-images", type=Path, help="folder of images for imagesTs")
    parser.add_argument("--resize", type=positive, nargs=2, metavar=("HEIGHT", "WIDTH"), help="new size in pixels")
    parser.add_argument("--channel-name", help="name in dataset.json; decides nnU-Net's normalisation")
    parser.add_argument("--dicom", action="store_true", help="images are DICOM: X-rays, or series of slices")
    parser.add_argument("--mapping", type=Path, metavar="CSV", help="with --dicom: table to write of whose a case is")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set of this name")


def run(args: argparse.Namespace) -> int:
    """Converts, and reports what was written."""
    from nnunet_diffusion_ensemble.data.convert import convert, dataset_folder

    if args.dicom:
        return _run_dicom(args)
    if args.mapping:
        raise ValueError("--mapping says whose a case is, which only --dicom has to hide: leave it out.")
    report = convert(
        args.images,
        args.masks,
        args.unlabelled,
        dataset_folder(args.dataset),
        labels=_named_values(args.labels),
        mask_suffix=args.mask_suffix,
        channel_name=args.channel_name,
        resize=tuple(args.resize) if args.resize else None,
        test_images=args.test_images,
        overwrite=args.overwrite,
    )
    print(report)
    return 0


def _run_dicom(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.data.convert import dataset_folder
    from nnunet_diffusion_ensemble.data.dicom_dataset import convert_dicom

    given = [name for name in ("resize", "mask_suffix") if getattr(args, name)]
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"--dicom keeps spacing and names its own cases: leave out {options}.")
    report = convert_dicom(
        args.images,
        args.masks,
        args.unlabelled,
        dataset_folder(args.dataset),
        labels=_named_values(args.labels),
        channel_name=args.channel_name,
        test_images=args.test_images,
        mapping=args.mapping,
        overwrite=args.overwrite,
    )
    print(report)
    return 0


def _named_values(pairs: Sequence[str] | None) -> dict[str, int] | None:
    if not pairs:
        return None
    values: dict[str, int] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not value.isdigit():
            raise ValueError(f"--labels takes NAME=VALUE with the value in the masks, e.g. lung=255; got {pair!r}.")
        if name in values:
            raise ValueError(f"--labels names {name} twice, as {values[name]} and {value}. Give each label one value.")
        values[name] = int(value)
    return values
