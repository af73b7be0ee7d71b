"""Streaming speech models that run entirely on the device."""
