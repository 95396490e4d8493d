"""One local model and all that runs it: catalog, downloads, engine, LangChain chat model, embeddings."""
