"""Workflows that compose verbs."""
