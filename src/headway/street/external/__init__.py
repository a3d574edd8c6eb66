"""Observations from outside a street: other people's cameras and detectors, weighed and merged with
what the street itself sees.

`rows` is what they send, `places` what they may speak of, `views` what a source knows of a lane,
`sources` how far each is trusted, `merge` ties them.
"""
