"""MONAI bundles: the only door to ``monai.bundle``."""
