"""Where road users are in a frame."""
