"""Training over several processes: who is who, how they share the work, and how they are started here."""
