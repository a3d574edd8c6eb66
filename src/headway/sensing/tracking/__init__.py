"""Road users from frame to frame, and their speeds."""
