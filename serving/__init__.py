"""The place of the HTTP API. It may use every folder below it and never `training`; they meet on disk."""
