"""llama.cpp's side of the engine: its library, a model's context and KV memory, batches, samplers."""
