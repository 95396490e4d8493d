"""The curves of training runs: loss, learning rate, tokens a second; and the losses of several in one plot.

Place in the data's way: metrics of runs -> Vega-Lite, which Streamlit ships and draws in the colours of the
page's own theme, light or dark. The plots are written as Vega-Lite's own JSON: altair, which writes the same,
takes a second to import and looks into pandas while another page may still be importing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import streamlit as st

_MOST_POINTS = 400
_SMOOTHED_SHARE = 0.05
_COLOUR = "#2f8f86"
_COLOURS = ("#2f8f86", "#c4673a", "#3f72b5", "#c9a227", "#8a6fb0", "#b05f8f", "#5f9e5a", "#8a8f98")
Series: TypeAlias = Sequence[tuple[int, float]]
_Spec: TypeAlias = dict[str, Any]


def show_curves(curves: Mapping[str, Series], num_steps: int, key: str) -> None:
    """Draw the loss large, learning rate and speed small; nothing before the first step.

    Args:
        curves: (step, value) of what a run logs, by its name.
        num_steps: Steps in all: where the axis ends.
        key: Of the plots, so that they are redrawn in place.
    """
    if not curves.get("loss"):
        return
    st.vega_lite_chart(loss_plot(curves["loss"], num_steps), key=f"{key}-loss", width="stretch")
    left, right = st.columns(2)
    for column, name, title in (
        (left, "learning_rate", "Learning rate"),
        (right, "tokens_per_s", "Tokens a second"),
    ):
        if series := curves.get(name):
            with column:
                plot = small_plot(series, title, num_steps)
                st.vega_lite_chart(plot, key=f"{key}-{name}", width="stretch")


def show_losses(losses: Mapping[str, Series], key: str) -> None:
    """Draw the smoothed loss of several runs in one plot, with a legend."""
    if not any(losses.values()):
        st.caption("None of these runs has a loss yet.")
        return
    st.vega_lite_chart(losses_plot(losses), key=key, width="stretch")


def loss_plot(series: Series, num_steps: int) -> _Spec:
    """Return the plot of a loss: its smoothed line over the faint raw one."""
    faint = _line(series, {"opacity": 0.5, "strokeWidth": 1})
    strong = _line(smoothed(series), {"strokeWidth": 2.5})
    shared = {"x": _steps(num_steps, "Step"), "y": _values("Loss", is_from_zero=False)}
    return {"height": 260, "encoding": shared, "layer": [faint, strong]}


def small_plot(series: Series, title: str, num_steps: int) -> _Spec:
    """Return a small plot of one number, its name above it."""
    form = "~g" if max(value for _, value in series) < 1 else ",.0f"
    heading = {"text": title, "fontSize": 13, "fontWeight": "normal", "anchor": "start"}
    shared = {"x": _steps(num_steps, None), "y": _values(None, form, is_from_zero=True)}
    line = _line(series, {"strokeWidth": 1.5})
    return {"height": 130, "title": heading, "encoding": shared, "layer": [line]}


def losses_plot(losses: Mapping[str, Series]) -> _Spec:
    """Return the plot of several runs' smoothed losses, each in a colour of its own."""
    rows = [
        {"step": step, "value": loss, "run": run}
        for run, series in losses.items()
        for step, loss in thinned(smoothed(series))
    ]
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(losses))]
    return {
        "height": 280,
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2, "tooltip": True},
        "encoding": {
            "x": _steps(0, "Step"),
            "y": _values("Loss", is_from_zero=False),
            "color": {
                "field": "run",
                "type": "nominal",
                "scale": {"domain": list(losses), "range": colours},
                "legend": {"title": None, "orient": "top", "labelLimit": 300},
            },
        },
    }


def smoothed(series: Series) -> list[tuple[int, float]]:
    """Return the mean over the steps around each, a twentieth of them all; the ends have fewer neighbours."""
    reach = max(1, round(len(series) * _SMOOTHED_SHARE / 2)) if len(series) > 10 else 0
    values = [value for _, value in series]
    found = []
    for place, (step, _) in enumerate(series):
        around = values[max(0, place - reach) : place + reach + 1]
        found.append((step, sum(around) / len(around)))
    return found


def thinned(series: Series) -> list[tuple[int, float]]:
    """Return at most some hundreds of points, evenly taken, the last one always: more can't be seen."""
    every = max(1, -(-len(series) // _MOST_POINTS))
    return [point for place, point in enumerate(series) if (len(series) - 1 - place) % every == 0]


def _line(series: Series, mark: _Spec) -> _Spec:
    rows = [{"step": step, "value": value} for step, value in thinned(series)]
    return {"data": {"values": rows}, "mark": {"type": "line", "color": _COLOUR, "tooltip": True, **mark}}


def _steps(last: int, title: str | None) -> _Spec:
    scale = {"domain": [0, last], "nice": False} if last else {"nice": False}
    axis = {"format": ",d", "tickMinStep": 1, "tickCount": 10, "grid": False}
    return {"field": "step", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _values(title: str | None, form: str = "", *, is_from_zero: bool) -> _Spec:
    axis = {"format": form, "tickCount": 4} if form else {}
    scale = {"zero": is_from_zero}
    return {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": axis}
