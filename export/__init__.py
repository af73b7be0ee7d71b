"""From Keras weights to a proven TFLite file."""
