"""What a ReAct run is made of: its graph, its turns, calls and observations, checkpoints and approvals."""
