"""What the services share: subjects, streams, consumers, events, facts, commands, error codes, ids and money.

Services import no other service; everything two of them must agree on stands here, once.
"""
