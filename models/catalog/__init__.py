"""The models by name: sources, downloads, what is on this disk, and which of them this machine should run."""
