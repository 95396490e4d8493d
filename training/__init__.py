"""The place of training. It may use core, models and evaluation, and never `serving`; they meet on disk."""
