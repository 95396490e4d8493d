"""How the planner decides: rules, doubts, more attempts, one strategy within another."""
