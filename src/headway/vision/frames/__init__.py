"""Frames of cameras, streams and files."""
