"""Measure a data set and choose how to train on it."""
