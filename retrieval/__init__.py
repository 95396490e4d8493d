"""Documents in, passages out: load, chunk, embed, index, search, budget, cite."""
