"""Figures for answers: metrics, question files, results. What answers is handed in as a callable."""
