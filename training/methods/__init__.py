"""Ways to fine-tune a model, one a file: which weights are trained or added, and how they are kept."""
