"""A collection as CouchDB's protocol sees it, without HTTP."""
