"""Segmenting one image with a network that is loaded once."""
