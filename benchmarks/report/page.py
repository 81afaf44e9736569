"""HTML pages from `benchmarks.report.content`, by the template ``templates/page.html``. Home of Jinja2.

A page needs nothing but itself, reads on a phone, prints, and follows the dark mode of the device.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.report.charts import to_svg
from benchmarks.report.content import Figure, Page

TEMPLATES = Path(__file__).with_name("templates")


def render(page: Page) -> str:
    """Render a page as HTML; every text in it is escaped."""
    numbers = count()

    def draw(figure: Figure) -> str:
        return to_svg(figure.chart, figure.caption, f"chart {next(numbers)}")

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page, draw=draw).lstrip()
