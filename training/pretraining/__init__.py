"""The parts of pre-training: settings, texts, vocabulary, blocks, model classes, held-out loss."""
