"""The vocabulary every other folder speaks: types, contracts, errors, settings and the conversation store."""
