"""The site that `make docs` builds out of the repository's Markdown and docstrings."""

import inspect
import re
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "softpool_det"
copyright = "the authors of softpool_det, Apache 2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The sources are the whole repository, so that the links GitHub follows work here, too: to another
# page, to a heading of it, or to a file, which the site then holds a copy of.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "csrc/README.md"]
exclude_patterns = [".*", "build", "dist", "output", "datasets", "weights"]
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
highlight_language = "none"

# Modules are imported for their docstrings, with stand-ins for what they import themselves.
autodoc_mock_imports = [
    *("PIL", "cv2", "detectron2", "fvcore", "hotcoco", "ijson", "iopath", "numba"),
    *("omegaconf", "pycocotools", "safetensors", "scipy", "tabulate", "torch", "torchvision"),
    *("tqdm", "yacs"),
]
warnings.filterwarnings("ignore", "softpool_det runs in plain PyTorch")
napoleon_use_ivar = True  # a list instead of a heading for each attribute
autodoc_member_order = "bysource"
autodoc_typehints = "none"
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "softpool_det"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["all-pages"]}
html_show_sourcelink = False
html_theme_options = {
    "navbar_center": [],
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def signature_of_init(app, what, name, obj, options, signature, returns):
    """The constructor's own; a stand-in among the bases hides it behind (*args, **kwargs)."""
    if what != "class" or signature is None:
        return None
    own = inspect.signature(obj.__init__)
    parameters = [each for each in own.parameters.values() if each.name != "self"]
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(parameters)), None


def markdown_to_rst(app, what, name, obj, options, lines):
    """Docstrings are written with Markdown's backticks; stars and bars are meant as they stand."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            parts = re.split(r"(:\w+:`[^`]+`|`[^`]+`)", line)
            parts[::2] = [re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
            parts[1::2] = [part if part[0] == ":" else f"`{part}`" for part in parts[1::2]]
            lines[number] = "".join(parts)


def add_redirect(app, error):
    """Pages lie as in the repository; whoever opens the site's top is sent to the index."""
    target = '<meta http-equiv="refresh" content="0; url=docs/index.html">'
    (Path(app.outdir) / "index.html").write_text(f"<!doctype html>{target}\n")


def setup(app):
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", markdown_to_rst, priority=400)  # before napoleon
    app.connect("build-finished", add_redirect)
