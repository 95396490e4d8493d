"""What would come of a run, before it is started: rows, what is dropped and why, memory, and the refusal.

Place in the data's way: `Chosen` -> `FrontDoor.training_runs.check` -> this view -> the button that starts.
"""

from __future__ import annotations

import streamlit as st

from ..training_check import Check, FilterFacts, ImportFacts, ShownRow
from ..training_check_job import CheckJob, CheckView
from . import memory_picture, training_actions, words
from .frontdoor import FrontDoor
from .text import escaped, plain
from .training_form import Chosen

TICK_S = 0.4
_JOB = "training-check"
_MAX_CHARS = 1500
_END_CHARS = 350


def has_job() -> bool:
    """Whether a check was asked for in this session."""
    return _JOB in st.session_state


def show(front: FrontDoor, chosen: Chosen) -> None:
    """Draw the button that checks, and what the check found."""
    st.button(
        "Check data and memory", key="check-training", icon=":material/fact_check:", type="secondary",
        disabled=not chosen.has_data, on_click=_check, args=(front, chosen),
        help="Nothing is trained yet.",
    )  # fmt: skip
    checked: tuple[Chosen, CheckJob] | None = st.session_state.get(_JOB)
    if checked is None:
        return
    asked, job = checked
    view = job.view()
    if not view.has_ended:
        _running(job)
        return
    if view.error or view.result is None:
        st.error(f"{plain(view.error)} {plain(view.hint)}".strip(), icon=":material/error:")
        return
    _result(front, chosen, asked, view.result)


def _check(front: FrontDoor, chosen: Chosen) -> None:
    if has_job():
        st.session_state[_JOB][1].cancel()
    st.session_state[_JOB] = chosen, front.training_runs.check(chosen.request, chosen.files)


@st.fragment(run_every=TICK_S)
def _running(job: CheckJob) -> None:
    """Show a check that goes on; looks again every `TICK_S` seconds."""
    view = job.view()
    if view.has_ended:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.html(_progress(view), width="stretch")
        st.button("Cancel", key="cancel-check", icon=":material/stop_circle:", on_click=_cancel)


def _cancel() -> None:
    st.session_state.pop(_JOB)[1].cancel()


def _progress(view: CheckView) -> str:
    text = f"Checking: {view.stage}" if view.stage else "Checking"
    if view.eta_s is not None and view.eta_s >= 1:
        text += f" · about {words.duration(round(view.eta_s))} left"
    share = f"{view.done / view.total:.1%}" if view.total else "0%"
    return (
        f'<div class="ls-status" role="status"><span class="ls-dot"></span><span>{escaped(text)}</span>'
        f'<span class="ls-elapsed">{words.duration(view.elapsed_s)}</span></div>'
        f'<div class="ls-progress"><div style="width:{share}"></div></div>'
    )


def _result(front: FrontDoor, chosen: Chosen, asked: Chosen, result: Check) -> None:
    st.markdown(
        f"**{words.count(result.num_train, 'row')} to train on**, {result.num_held_out:,} held out · "
        f"{words.count(result.num_steps, 'step')} · the longest row has "
        f"{words.count(result.longest_tokens, 'token')}"
    )
    _imports(result.imports)
    _filters(result.filters)
    _rows(result.rows)
    if result.memory is not None:
        st.markdown("**Memory at the peak**")
        st.html(memory_picture.bar(result.memory) + memory_picture.legend(result.memory))
    if result.num_long and not result.refusal:
        st.caption(f"{words.count(result.num_long, 'row')} longer than allowed will be left out.")
    if result.refusal:
        st.error(f"{plain(result.refusal)} {plain(result.hint)}".strip(), icon=":material/block:")
    is_same = asked == chosen
    if not is_same:
        st.caption("Something was changed since: check again before you start.")
    st.button(
        "Start training", key="start-training", type="primary", icon=":material/model_training:",
        disabled=bool(result.refusal) or not is_same, on_click=_start, args=(front, chosen, result),
    )  # fmt: skip


def _start(front: FrontDoor, chosen: Chosen, result: Check) -> None:
    training_actions.start(front, chosen.request, result)
    st.session_state.pop(_JOB, None)


def _imports(imports: tuple[ImportFacts, ...]) -> None:
    for facts in imports:
        if facts.num_bad:
            examples = "".join(f"\n- {plain(example)}" for example in facts.bad_examples)
            st.warning(
                f"{facts.num_bad:,} of {words.count(facts.num_records, 'record')} of {plain(facts.source)} "
                f"can't be used and are left out:{examples}",
                icon=":material/warning:",
            )
        for reason, number in facts.left_out:
            st.caption(f"{number:,} × {plain(reason)}")


def _filters(filters: tuple[FilterFacts, ...]) -> None:
    rows = "".join(
        f"<tr><td>{escaped(facts.name)}</td><td>{escaped(_reasons(facts))}</td>"
        f"<td>{facts.num_dropped:,} of {facts.num_before:,}</td></tr>"
        for facts in filters
    )
    st.markdown("**What the quality filter drops**")
    st.html(f'<table class="ls-facts"><tbody>{rows}</tbody></table>')
    samples = [(facts.name, *sample) for facts in filters for sample in facts.samples]
    if samples:
        with st.expander(f"Dropped rows, {words.count(len(samples), 'sample')}"):
            for name, source, reason, text in samples:
                st.html(
                    f'<div class="ls-dropped"><small>{escaped(f"{source} · {name}: {reason}")}</small>'
                    f"<pre>{escaped(text)}</pre></div>"
                )


def _reasons(facts: FilterFacts) -> str:
    if not facts.num_dropped:
        return "nothing"
    return "; ".join(f"{reason} ({number:,})" for reason, number in facts.reasons[:3])


def _rows(rows: tuple[ShownRow, ...]) -> None:
    st.markdown("**As the model will read it** · what is marked is learned")
    st.html("".join(_row(row) for row in rows))


def _row(row: ShownRow) -> str:
    prompt = row.prompt
    if len(prompt) > 2 * _END_CHARS:  # its ends: the task stands at one of them, and the completion follows
        prompt = f"{prompt[:_END_CHARS]}\n […]\n{prompt[-_END_CHARS:]}"
    facts = f"{row.source} · {row.num_prompt:,} tokens of prompt, {row.num_completion:,} learned"
    return (
        f'<div class="ls-row"><small>{escaped(facts)}</small>'
        f"<pre>{escaped(prompt)}<mark>{escaped(row.completion[:_MAX_CHARS])}</mark></pre></div>"
    )
