"""What is drawn over a frame."""
