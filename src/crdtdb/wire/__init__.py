"""The wire: CBOR, frames and messages; and the encoding of a document's state, which the disk shares.

Pure. Bytes in, values out; owns no socket.
"""
