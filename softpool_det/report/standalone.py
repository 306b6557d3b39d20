"""Pages of other rooms in the report's style: one file that needs nothing else."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(package: str, template: str, **values: Any) -> str:
    """Render a package's own template, with the report's style sheet as `styles`.

    Args:
        package: that has the template in `templates`.
        template: its file name.
        values: what it shows; text is escaped.
    """
    loaders = [PackageLoader(package), PackageLoader("softpool_det.report")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Ours, from the package: it holds no data.
    styles = Markup(loaders[1].get_source(environment, "page.css")[0])
    page = environment.get_template(template).render(styles=styles, **values)
    # A file's name may hold bytes that are not text (Python's lone surrogates).
    return page.encode(errors="backslashreplace").decode()
