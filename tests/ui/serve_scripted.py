"""Served by Streamlit in the tests: the real pages over the scripted front door."""

from localsmith.ui.app import main
from scripted_front_door import ScriptedFrontDoor

main(ScriptedFrontDoor)
