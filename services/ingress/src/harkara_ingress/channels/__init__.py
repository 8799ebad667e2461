"""What a client may ask of each channel: one file a channel, pure, with the limits of those who carry it.

SMS stands in `harkara_ingress.sending.request`, beside what becomes of a send.
"""
