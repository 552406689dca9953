"""Real clients of CouchDB's protocol against real nodes."""
