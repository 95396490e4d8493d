"""A training run on disk: what was asked for, how far it is, its metrics, its checkpoints."""
