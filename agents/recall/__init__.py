"""What memory is made of: the window, running summaries, and facts in the person's own words."""
