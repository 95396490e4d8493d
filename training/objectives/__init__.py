"""What is learned from plain text: the next token, masked tokens, or spans that were taken out."""
