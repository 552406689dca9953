"""Wire format: CBOR, frames, messages and document states (also on disk).

Pure. Bytes in, values out; owns no socket.
"""
