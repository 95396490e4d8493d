"""Localsmith."""
