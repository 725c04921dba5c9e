# SPDX-License-Identifier: Apache-2.0
"""An empty plot in the look that all plots share."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH_INCHES, _HEIGHT_INCHES = 7.0, 4.2


def new_figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and a light grid."""
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
