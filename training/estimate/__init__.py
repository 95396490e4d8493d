"""What a training run costs before it is begun: memory, computation, time; and what would fit instead."""
