"""What each class of model is for: an encoder labels, a decoder continues, an encoder-decoder rewrites."""
