"""What happens on the page, without the page: uploads, looks one at a time, and the sentences for all that fails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock

from nnunet_diffusion_ensemble.app.look import Inspection, look_at
from nnunet_diffusion_ensemble.app.models import Models, PageModel
from nnunet_diffusion_ensemble.app.upload import Upload, read_upload
from nnunet_diffusion_ensemble.images.reading import ImageError

BUSY = "Another image is being looked at; yours is next."
PREDICTING = "Loading the model and predicting."
MOST_AT_ONCE = 4
TOO_MANY = f"{MOST_AT_ONCE} images are at work or waiting already. Try again in a minute."


class Visits:
    """The page's work; one image at a time, since a model and its memory are shared.

    Args:
        folder: for masks to download; whoever made it removes it.
        models: where models come from.
    """

    def __init__(self, folder: Path, models: Models):
        self.folder, self.models = folder, models
        self._at_work, self.num_at_once = Lock(), 0

    def take(self, file: Path) -> Upload:
        """Reads an uploaded file and deletes it with the folder that the page made for it, whatever comes of it.

        Raises:
            ValueError: it cannot be used; the message says why.
            RuntimeError: as `read_upload`.
        """
        try:
            return read_upload(file)
        except ImageError as error:
            raise ValueError(f"{error.short}.") from error
        finally:
            file.unlink(missing_ok=True)

    def model(self, folder: str | None, timesteps: Sequence[int] | None = None) -> PageModel:
        """A model of the page. Raises what `Models.get` does."""
        with self._at_work:
            return self.models.get(folder, timesteps)

    def look(self, upload: Upload, folder: str | None, timesteps: Sequence[int] | None) -> Iterator[str | Inspection]:
        """Sentences on how it goes, and at the end the look.

        Raises:
            ValueError: too many wait already, or image and model do not go together.
        """
        if self.num_at_once >= MOST_AT_ONCE:
            raise ValueError(TOO_MANY)
        yield BUSY if self._at_work.locked() else PREDICTING
        with self._one_at_a_time():  # within it nothing is yielded: who leaves the page would keep the others waiting
            look = look_at(upload, self.models.get(folder, timesteps))
        yield look

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        self.num_at_once += 1
        try:
            with self._at_work:
                yield
        finally:
            self.num_at_once -= 1

    def write_mask(self, look: Inspection) -> Path:
        """The mask as a file to download, in the format and geometry of the upload."""
        return look.upload.write_mask(look.prediction.segmentation, Path(mkdtemp(dir=self.folder)))
