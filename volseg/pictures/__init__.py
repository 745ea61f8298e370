"""Pictures: overlays of masks on images, and plots."""
