"""What the tracked road users come to: measures of traffic, and violations."""
