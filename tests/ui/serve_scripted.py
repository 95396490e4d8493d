"""Served by Streamlit in the tests: the real pages over the scripted front door."""

from localsmith.ui.app import main


def scripted() -> object:
    from scripted_front_door import ScriptedFrontDoor

    return ScriptedFrontDoor()


main(scripted)  # type: ignore[arg-type]
