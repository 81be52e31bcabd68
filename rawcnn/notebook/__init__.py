"""How results show themselves in notebooks: a line of text, and a table as HTML or a picture as PNG.

`import rawcnn` calls `register` where IPython runs. Each result has a module of its own, with the functions `text`,
and `html` or `png`; DISPLAYS lists them. A type is registered by its name, so this package imports neither the module
that defines it, nor TensorFlow, nor matplotlib, until a result is shown. No other package knows about notebooks.

    In [1]: import rawcnn
    In [2]: rawcnn.profile("alexnet")  # shows a table
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rawcnn.notebook import (
    attack_result,
    backward,
    comparison,
    data_set,
    deconvolution,
    excitation,
    fooling_images,
    forward,
    inputs_by_channel,
    network,
    optimized,
    profile,
    saliency,
    top_input,
)
from rawcnn.notebook.display import Display

DISPLAYS: dict[tuple[str, str], Display] = {  # (module, name) of a type
    ("rawcnn.profiling.costs", "Profile"): Display(profile.text, html=profile.html),
    ("rawcnn.papers.comparison", "Comparison"): Display(comparison.text, html=comparison.html),
    ("rawcnn.data.dataset", "DataSet"): Display(data_set.text, png=data_set.png),
    ("rawcnn.nn.network", "Network"): Display(repr, html=network.html),
    ("rawcnn.nn.trace", "Forward"): Display(forward.text, html=forward.html),
    ("rawcnn.nn.backpropagation", "Backward"): Display(backward.text, html=backward.html),
    ("rawcnn.attacks.result", "AttackResult"): Display(attack_result.text, png=attack_result.png),
    ("rawcnn.attacks.spatial_search", "SpatialResult"): Display(attack_result.text, png=attack_result.png),
    ("rawcnn.attacks.evolution", "FoolingImages"): Display(fooling_images.text, png=fooling_images.png),
    ("rawcnn.visualize.optimization", "Optimized"): Display(optimized.text, png=optimized.png),
    ("rawcnn.visualize.deconvolution", "Deconvolution"): Display(deconvolution.text, png=deconvolution.png),
    ("rawcnn.visualize.saliency", "Saliency"): Display(saliency.text, png=saliency.png),
    ("rawcnn.visualize.dataset_examples", "InputsByChannel"): Display(
        inputs_by_channel.text, png=inputs_by_channel.png
    ),
    ("rawcnn.visualize.dataset_examples", "Excitation"): Display(excitation.text, png=excitation.png),
    ("rawcnn.visualize.dataset_examples", "TopInput"): Display(top_input.text, png=top_input.png),
}


def register(shell: Any = None) -> None:
    """Let results show themselves in IPython. Called a second time, it changes nothing.

    Args:
        shell: The IPython shell; by default the one that runs. Without one this does nothing.
    """
    ipython = sys.modules.get("IPython")
    shell = shell or (ipython and ipython.get_ipython())
    if shell is None:
        return
    formatters = shell.display_formatter.formatters
    for (module, name), display in DISPLAYS.items():
        formatters["text/plain"].for_type_by_name(module, name, _printer(display.text))
        if display.html:
            formatters["text/html"].for_type_by_name(module, name, display.html)
        if display.png:
            formatters["image/png"].for_type_by_name(module, name, display.png)


load_ipython_extension = register  # %load_ext rawcnn.notebook, where rawcnn was imported before IPython began


def _printer(text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
    """Return a text formatter in the form that IPython calls."""

    def show(result: Any, printer: Any, cycle: bool) -> None:
        printer.text(text(result))

    return show
