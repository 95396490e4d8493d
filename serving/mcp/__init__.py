"""The MCP server: other assistants ask, search and compute here, over stdio or HTTP."""
