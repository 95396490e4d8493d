"""What answers from documents need besides the budget: rewriting, searching, abstaining."""
