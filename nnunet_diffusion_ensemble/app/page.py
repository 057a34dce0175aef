"""The page itself: Gradio's components and what each of them calls. Nothing in it comes from the network."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.app.models import SHIPPED, Models
from nnunet_diffusion_ensemble.app.pictures import Display, contours_picture, entropy_picture, first_shown, grey_steps
from nnunet_diffusion_ensemble.app.trust import score_rows, trust_sentences
from nnunet_diffusion_ensemble.app.upload import LARGEST_MB, Upload
from nnunet_diffusion_ensemble.app.visit import MOST_AT_ONCE, Visits
from nnunet_diffusion_ensemble.system.messages import in_one_line

ADDRESS = "127.0.0.1"
FOLDER = "A results folder of nnU-Net"
INTRODUCTION = """# What does the model see, and how sure is it?
Choose an image: PNG, TIFF, NIfTI, DICOM, or a zip of a DICOM series. Nothing leaves this machine; the file is deleted
as soon as it is read, and nothing is kept of who it shows. Not for diagnosis."""
CSS = """
.gradio-container { max-width: 1200px !important; margin: auto }
#sentence { font-size: 1.05em }
#file td.download { display: none } /* the file is gone by then */
footer { display: none !important }
@media (max-width: 640px) { .gradio-container h1 { font-size: 1.4em !important } }
"""
FONTS = ["system-ui", "sans-serif"]  # Gradio's own come from Google
# Whatever a version of Gradio would fetch from elsewhere, the browser does not.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "form-action 'self'; frame-ancestors 'none'"
)
UPLOADS = "uploads"
DELETED_AFTER_SECONDS = (300, 900)  # looks every five minutes for files of a quarter of an hour
PRIVATE = {"api_visibility": "private"}  # a page, not a service
NO_FILE = "Choose an image first."
READY = "Choose an image and press Look."
REFUSED = "**This does not work.** {why}"
NUM_RESULTS = 8  # beside the sentence


def run_page(
    folder: str | None = None, port: int | None = None, device: str | None = None, opens_browser: bool = False
) -> None:
    """Serves the page at 127.0.0.1 until Ctrl-C; removes what was uploaded and made.

    Args:
        folder: results folder to offer instead of the shipped model.
        port: None is the first free one from 7860.
        device: of prediction; None is CUDA where it is there, else the CPU.
        opens_browser: show it.

    Raises:
        ModuleNotFoundError: Gradio is not installed.
        OSError: the port is taken.
    """
    with TemporaryDirectory(prefix="nnunet-diffusion-app-") as work:
        page = make_page(Path(work), folder, device)
        page.launch(**launch_options(port), inbrowser=opens_browser)


def launch_options(port: int | None) -> dict[str, Any]:
    """How Gradio serves the page: here only, without telling anybody."""
    import gradio
    from starlette.middleware import Middleware

    theme = gradio.themes.Default(font=FONTS, font_mono=["monospace"], primary_hue="blue")
    return {
        "server_name": ADDRESS,
        "server_port": port,
        "share": False,
        "show_error": True,
        "max_file_size": LARGEST_MB * 10**6,
        "app_kwargs": {"middleware": [Middleware(OwnContentOnly)]},
        "footer_links": [],
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "run_history": False,
        "enable_monitoring": False,
        "theme": theme,
        "css": CSS,
    }


class OwnContentOnly:
    """Has the browser fetch nothing from elsewhere."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def make_page(work: Path, folder: str | None = None, device: str | None = None) -> Any:
    """The page as Gradio's Blocks.

    Args:
        work: folder for uploads and masks.
        folder: results folder to offer first.
        device: of prediction.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(work / UPLOADS)  # read when the components are made
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    (work / UPLOADS).mkdir()
    visits = Visits(work / UPLOADS, Models(device))
    with gradio.Blocks(analytics_enabled=False, title="nnunet-diffusion", delete_cache=DELETED_AFTER_SECONDS) as page:
        _Page(gradio, page, visits, folder).build()
    return page


class _Page:
    """Builds the components and ties them to their functions."""

    def __init__(self, gradio: Any, page: Any, visits: Visits, folder: str | None):
        self.gr, self.page, self.visits, self.folder = gradio, page, visits, folder or ""

    def build(self) -> None:
        gr = self.gr
        gr.Markdown(INTRODUCTION)
        self.upload, self.look = gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                self._build_inputs()
            with gr.Column(scale=2, min_width=320):
                self._build_results()
        self._tie()

    def _build_inputs(self) -> None:
        gr = self.gr
        self.file = gr.File(label="Image", file_count="single", elem_id="file", height=130)
        self.file_note = gr.Markdown(elem_id="file-note")
        first = FOLDER if self.folder else SHIPPED
        self.model = gr.Radio([SHIPPED, FOLDER], value=first, label="Model", elem_id="model")
        self.results_folder = gr.Textbox(
            self.folder,
            label="Results folder",
            placeholder="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION",
            info="Checkpoints may run code: only those of people you trust. Enter reads it.",
            visible=bool(self.folder),
            elem_id="folder",
        )
        self.timesteps = gr.CheckboxGroup([], label="Timesteps", elem_id="timesteps")
        self.button = gr.Button("Look", variant="primary", elem_id="look")

    def _build_results(self) -> None:
        gr = self.gr
        self.sentence = gr.Markdown(READY, elem_id="sentence")
        with gr.Row():
            self.contours, self.entropy = self._picture("contours"), self._picture("entropy")
        self.slice = gr.Slider(0, 1, step=1, label="Slice", visible=False, elem_id="slice")
        with gr.Row():
            self.level = gr.Slider(0, 1, label="Level", visible=False, elem_id="level", min_width=200)
            self.window = gr.Slider(0, 1, label="Window", visible=False, elem_id="window", min_width=200)
        self.scores = gr.Dataframe(
            headers=["denoising error of", "value"], label="Is the image unusual?", visible=False, elem_id="scores"
        )
        self.download = gr.DownloadButton("Download the mask", visible=False, elem_id="download")

    def _picture(self, name: str) -> Any:
        """A place for a picture, whose own title stands above it: Gradio's label would lie on the image."""
        settings = {"format": "png", "buttons": ["fullscreen"], "show_label": False, "visible": False}
        return self.gr.Image(elem_id=name, min_width=280, **settings)

    def _tie(self) -> None:
        model, pictures = [self.model, self.results_folder], [self.contours, self.entropy]
        shown = [self.slice, self.level, self.window]
        chosen = [self.results_folder, self.timesteps, self.sentence]
        self.file.upload(self._take, self.file, [self.upload, self.file_note], **PRIVATE)
        self.file.clear(lambda: (None, ""), None, [self.upload, self.file_note], **PRIVATE)
        self.page.load(self._choose, model, chosen, **PRIVATE)
        for event in (self.model.change, self.results_folder.submit):
            event(self._choose, model, chosen, **PRIVATE)
        results = [self.sentence, self.look, *pictures, *shown, self.scores, self.download]
        at_once = {"concurrency_limit": MOST_AT_ONCE}
        self.button.click(self._look, [self.upload, *model, self.timesteps], results, **at_once, **PRIVATE)
        for slider in shown:
            redraw = {"show_progress": "hidden", "trigger_mode": "always_last"}
            slider.input(self._draw, [self.look, *shown], pictures, **redraw, **PRIVATE)

    def _take(self, file: str) -> tuple[Upload | None, str]:
        try:
            upload = self.visits.take(Path(file))
        except (ValueError, RuntimeError) as error:  # the latter where DICOM cannot be read for want of a library
            return None, REFUSED.format(why=error)
        return upload, f"{Path(file).name}: {upload.in_words}"

    def _choose(self, model: str, folder: str) -> tuple[Any, Any, str]:
        """Shows the folder's field where it is needed, and the timesteps of the model."""
        gr, wants_folder = self.gr, model == FOLDER
        field = gr.update(visible=wants_folder)
        if wants_folder and not folder.strip():
            return field, gr.update(choices=[], value=[]), "Name a results folder and press Enter."
        try:
            timesteps = self.visits.model(folder if wants_folder else None).loaded.timesteps or ()
        except Exception as error:  # damaged files raise errors of any kind
            return field, gr.update(choices=[], value=[]), REFUSED.format(why=in_one_line(error))
        names = [str(t) for t in timesteps]
        info = "" if names else "This model makes one prediction."
        return field, gr.update(choices=names, value=names, info=info), READY

    def _look(self, upload: Upload | None, model: str, folder: str, timesteps: list[str]) -> Iterator[tuple]:
        """Says how it goes, and shows the result; what is shown stays if it fails."""
        skips = (self.gr.skip(),) * NUM_RESULTS
        if upload is None:
            yield REFUSED.format(why=NO_FILE), *skips
            return
        steps = self.visits.look(upload, folder if model == FOLDER else None, [int(t) for t in timesteps] or None)
        try:
            for step in steps:
                yield (step, *skips) if isinstance(step, str) else self._results(step)
        except Exception as error:  # of memory, drivers and damaged files there is any kind
            yield REFUSED.format(why=in_one_line(error)), *skips

    def _results(self, look: Inspection) -> tuple:
        gr, shown = self.gr, first_shown(look)
        low, high, step = grey_steps(float(look.image.min()), float(look.image.max()))
        slices = gr.update(value=shown.slice_index, maximum=max(look.num_slices - 1, 1), visible=look.num_slices > 1)
        level = gr.update(value=shown.level, minimum=low, maximum=high, step=step, visible=True)
        window = gr.update(value=shown.window, minimum=step, maximum=high - low, step=step, visible=True)
        rows = score_rows(look)
        return (
            trust_sentences(look),
            look,
            gr.update(value=contours_picture(look, shown), visible=True),
            gr.update(value=entropy_picture(look, shown), visible=True),
            slices,
            level,
            window,
            gr.update(value=rows, visible=bool(rows)),
            gr.update(value=str(self.visits.write_mask(look)), visible=True),
        )

    def _draw(self, look: Inspection | None, slice_index: float, level: float, window: float) -> tuple[Any, Any]:
        if look is None:
            return self.gr.skip(), self.gr.skip()
        shown = Display(min(int(slice_index), look.num_slices - 1), level, window)
        return contours_picture(look, shown), entropy_picture(look, shown)
