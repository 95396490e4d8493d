"""The fine-tuning methods beside each other on the same rows: size, memory, speed, quality, forgetting."""
