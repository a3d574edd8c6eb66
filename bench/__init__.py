"""Benchmarks that print ratios in one run; `make bench`, or `python -m bench NAME ...`."""
