"""Streets and cameras kept running for those who look and operate, and their notifications."""
