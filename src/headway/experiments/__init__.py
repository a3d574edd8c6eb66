"""Judging controllers: benchmark runs and their statistics."""
