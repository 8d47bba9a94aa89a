"""Side by side with peers and baselines."""
