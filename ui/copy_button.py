"""A button that puts an answer on the clipboard.

Place in the data's way: the text travels as data, never as markup, and the browser alone handles it.
"""

from __future__ import annotations

import functools
from typing import Any

import streamlit as st

_HTML = '<button type="button" title="Copy the answer" aria-label="Copy the answer">Copy</button>'
_CSS = """
button { font: inherit; font-size: 0.85rem; color: inherit; background: none; border: 0; cursor: pointer;
  padding: 0.25rem 0.5rem; border-radius: 0.5rem; min-height: 2rem; opacity: 0.75;
  font-family: var(--st-font); }
button:hover, button:focus-visible { opacity: 1; color: var(--st-primary-color); }
"""
# Without a secure context (the chat opened over plain http from another machine) the clipboard interface is
# missing and the old way through a selected text area still works.
_JS = """
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector("button");
  const oldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.appendChild(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject();
  };
  button.onclick = () => {
    const copied = navigator.clipboard ? navigator.clipboard.writeText(data.text) : oldWay(data.text);
    copied.then(() => { button.textContent = "Copied"; }, () => { button.textContent = "Copying failed"; });
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
}
"""


@functools.cache
def _component() -> Any:
    return st.components.v2.component("localsmith.copy_button", html=_HTML, css=_CSS, js=_JS)


def copy_button(text: str, key: str) -> None:
    """Show the button.

    Args:
        text: What it copies.
        key: Unique among the page's widgets.
    """
    _component()(data={"text": text}, key=key, height="content", width="content")
