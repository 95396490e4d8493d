"""From a person's files and feedback to a version of training data, without leaks into what is held out."""
