"""Writes docs/how-to/report_example.html: the report of a demo, with pictures small enough for a page.

nnunet-diffusion demo --quick DEMO
python docs/write_report_example.py DEMO

Pictures keep their pixels and get a palette of 64 colours; the demo's folder is called `demo`. Nothing else is changed.
"""

import argparse
import base64
import io
import re
from pathlib import Path

from PIL import Image

from nnunet_diffusion_ensemble.demo.steps import REPORT
from nnunet_diffusion_ensemble.report.page import breakable
from nnunet_diffusion_ensemble.system.atomic import write_text

PAGE = Path(__file__).resolve().parent / "how-to" / "report_example.html"
COLOURS = 64
PICTURE = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")


def with_palette(png: bytes) -> bytes:
    """The picture with few colours, on white."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller = io.BytesIO()
    picture.save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def page(demo: Path) -> str:
    """The report of a finished demo."""
    report, folder = (demo / REPORT).read_text(encoding="utf-8"), str(demo.resolve())
    for written in (folder, str(breakable(folder))):
        report = report.replace(written, "demo")
    return PICTURE.sub(lambda found: base64.b64encode(with_palette(base64.b64decode(found[0]))).decode(), report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    write_text(PAGE, page(parser.parse_args().demo))


if __name__ == "__main__":
    main()
