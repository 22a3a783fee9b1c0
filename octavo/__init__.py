"""Octavo: language models in a handy format."""
