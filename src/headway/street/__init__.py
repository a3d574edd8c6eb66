"""The composition: which plant, controllers, gate, record."""
