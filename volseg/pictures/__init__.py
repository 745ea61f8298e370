"""Pictures as PNG: plots, and overlays of masks on images."""
