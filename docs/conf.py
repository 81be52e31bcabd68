"""The documentation site: `sphinx-build -W docs build/site`, after `pip install '.[docs]'`.

`-D nb_execution_mode=off` builds it without running the notebooks. The pages load nothing from the network, so the
folder build/site works offline.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]
# The kernels of notebooks are processes of their own: they import this copy of rawcnn, too, and print no messages of
# TensorFlow's.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "rawcnn"
smartquotes_action = "D"  # dashes alone: formulas such as [B,H',W',C] stay as they are
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "plain_docstrings",  # _extensions/
    "repository_files",
    "kernel_equations",
    "command_help",
]
exclude_patterns = ["*.py", "_extensions", "notebooks/*.ipynb", "**/.ipynb_checkpoints"]

# Markdown: anchors as a code forge makes them.
myst_heading_anchors = 4

# Notebooks are Python files with cells, which jupytext reads. Their results are kept in .jupyter_cache next to the
# output. Lessons are shown, but not run.
nb_custom_formats = {".py": ["python_pages.read", {}]}
nb_execution_mode = "cache"
nb_execution_excludepatterns = ["lessons/*"]
nb_execution_timeout = 600
nb_execution_show_tb = True  # a cell that fails is a warning, and -W makes it an error
nb_output_stderr = "remove"  # TensorFlow's messages
nb_ipywidgets_js: dict = {}  # would come from the network

# API reference
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
# What references may not find under -n: names of other libraries, whose lists are in the network; code in backticks
# that is no public name; types that are not public.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class", r"(tf|tensorflow|numpy|collections|pathlib|rawcnn|kernels)\..*|Tensors"),
]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "rawcnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_search_summary = False  # a browser does not let a page of a folder read other pages
html_theme_options = {"navigation_with_keys": True}
