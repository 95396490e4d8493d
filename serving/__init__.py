"""The HTTP server in OpenAI's form. It uses the folders below it and never `training`; they meet on disk."""
