"""From trained weights to a GGUF file that the engine runs: write, quantize, check, hand over."""
