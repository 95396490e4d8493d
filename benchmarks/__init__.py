"""Benchmarks: Localsmith beside its peers, in one run, as ratios and plots."""
