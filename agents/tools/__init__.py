"""What an agent can use: each tool says its arguments as a schema, its time limit, and who must agree."""
