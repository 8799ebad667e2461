"""The edge over gRPC: the same door, rules and answers as over HTTP, in protocol buffers."""

import os

# gRPC's core writes a line of its own form for each handshake that fails, and anybody can make handshakes fail.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
