"""Images as files that a reader can open, whether they lie loose or in a shard."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nnunet_diffusion_ensemble.images.reading import ImageError
from nnunet_diffusion_ensemble.nnunet.raw_shards import extract, is_member


@contextmanager
def as_files(images: Sequence[Path], folder: Path | None = None) -> Iterator[list[Path]]:
    """The images of a case as files: themselves, or taken out of their shard for as long as the block lasts.

    Args:
        images: of one case, as `find_unlabelled_cases` gives them.
        folder: for what is taken out of a shard; None for the system's folder of temporary files.

    Raises:
        ShardError: the shard cannot be used.
        ImageError: that of the block, which then names shard and member.
    """
    if not is_member(images[0]):
        yield list(images)
        return
    with TemporaryDirectory(prefix="nnunet-diffusion-", dir=folder) as name:
        # nnU-Net's reader of 3D TIFF looks for CASE.json beside the image.
        files = extract(images, [f"{images[0].name.rsplit('_', 1)[0]}.json"], Path(name))
        try:
            yield files
        except ImageError as error:
            named = [images[0].parent / file.name for file in error.files]
            raise ImageError(named, error.reason.replace(name + os.sep, "")) from error
