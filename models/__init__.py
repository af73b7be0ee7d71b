"""Keras 3 models and their training recipes."""
