"""The HTTP API: CouchDB's, and what it lacks under `_`-names. Each resource has a file; errors become answers in one."""
