"""What strategies that reason share: completions, samples, votes, examples, extraction of answers."""
