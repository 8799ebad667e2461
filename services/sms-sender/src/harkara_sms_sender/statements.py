"""The statements of `store`. Batches come as arrays; `unnest` makes rows of them again.

Some are joined of constants (S608): the columns that tell a part's fate are the same everywhere.
"""

_COLUMNS = (
    "s.day, s.attempt_id, s.part, s.parts, s.trail, s.state, s.carrier_message_id, s.receipt_key, s.error_code, "
    "s.error_description, s.carrier_code, s.retriable, s.answered_at, s.final_at"
)

INSERT_INTENTS = """
INSERT INTO submission (day, attempt_id, part, parts, carrier, lane, sender, recipient, trail, state, owner, tries, intended_at)
SELECT i.*, 'submitting', $10, 1, $11
FROM unnest($1::date[], $2::text[], $3::int[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) AS i
ON CONFLICT DO NOTHING
RETURNING attempt_id
"""

RECORD_ANSWERS = """
UPDATE submission AS s
SET state = a.state, carrier_message_id = a.carrier_message_id, receipt_key = a.receipt_key, error_code = a.error_code,
    error_description = a.error_description, carrier_code = a.carrier_code, retriable = a.retriable,
    answered_at = a.answered_at, final_at = a.final_at
FROM unnest($1::date[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::bool[], $11::timestamptz[], $12::timestamptz[])
    AS a(day, attempt_id, part, state, carrier_message_id, receipt_key, error_code, error_description, carrier_code,
         retriable, answered_at, final_at)
WHERE s.day = a.day AND s.attempt_id = a.attempt_id AND s.part = a.part AND s.state IN ('submitting', 'unknown')
"""

APPLY_WORDS = f"""
UPDATE submission AS s
SET state = w.state, error_code = w.error_code, error_description = w.error_description, carrier_code = w.carrier_code,
    retriable = w.retriable, final_at = w.said_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::timestamptz[])
    AS w(carrier, receipt_key, state, error_code, error_description, carrier_code, retriable, said_at)
WHERE s.carrier = w.carrier AND s.receipt_key = w.receipt_key AND s.day BETWEEN $9 AND $10 AND s.state = 'sent'
RETURNING s.carrier, {_COLUMNS}
"""  # noqa: S608

APPLY_KNOWN = """
UPDATE submission AS s
SET state = w.state, error_code = w.error_code, error_description = w.error_description, carrier_code = w.carrier_code,
    retriable = w.retriable, final_at = w.said_at
FROM unnest($1::date[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bool[],
            $9::timestamptz[])
    AS w(day, attempt_id, part, state, error_code, error_description, carrier_code, retriable, said_at)
WHERE s.day = w.day AND s.attempt_id = w.attempt_id AND s.part = w.part AND s.state = 'sent'
RETURNING s.day, s.attempt_id, s.part
"""

FIND_KEYS = f"""
SELECT s.carrier, s.recipient, {_COLUMNS}
FROM unnest($1::text[], $2::text[]) AS w(carrier, receipt_key)
JOIN submission AS s ON s.carrier = w.carrier AND s.receipt_key = w.receipt_key
ORDER BY s.intended_at
"""  # noqa: S608

FIND_OPEN = """
SELECT s.carrier, s.sender, s.recipient, s.day, s.attempt_id, s.part
FROM unnest($1::text[], $2::text[], $3::text[]) AS w(carrier, sender, recipient)
JOIN submission AS s ON s.carrier = w.carrier AND s.recipient = w.recipient AND s.sender = w.sender
WHERE s.receipt_key IS NULL AND s.intended_at > $4
  AND (s.state = 'unknown' OR (s.state = 'submitting' AND s.owner <> $5))
ORDER BY s.attempt_id, s.part
"""

PROVE_TAKEN = f"""
UPDATE submission AS s
SET state = w.state, receipt_key = w.receipt_key, carrier_message_id = w.carrier_message_id, error_code = w.error_code,
    error_description = w.error_description, carrier_code = w.carrier_code, retriable = w.retriable,
    answered_at = coalesce(s.answered_at, w.said_at), final_at = w.said_at
FROM unnest($1::date[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::bool[], $11::timestamptz[])
    AS w(day, attempt_id, part, state, receipt_key, carrier_message_id, error_code, error_description, carrier_code,
         retriable, said_at)
WHERE s.day = w.day AND s.attempt_id = w.attempt_id AND s.part = w.part AND s.state IN ('submitting', 'unknown')
RETURNING s.carrier, {_COLUMNS}
"""  # noqa: S608

ATTEMPTS = f"""
SELECT s.carrier, s.owner, s.tries, s.intended_at, {_COLUMNS}
FROM unnest($1::date[], $2::text[]) AS a(day, attempt_id)
JOIN submission AS s ON s.day = a.day AND s.attempt_id = a.attempt_id
ORDER BY s.attempt_id, s.part
"""  # noqa: S608

CLAIM = """
UPDATE submission AS s SET owner = $4, tries = s.tries + 1, intended_at = $5
FROM unnest($1::date[], $2::text[], $3::text[]) AS a(day, attempt_id, owner)
WHERE s.day = a.day AND s.attempt_id = a.attempt_id AND s.owner = a.owner AND s.state = 'submitting'
RETURNING s.attempt_id
"""

GIVE_UP = """
UPDATE submission AS s SET state = 'unknown', error_description = $4, answered_at = $5
FROM unnest($1::date[], $2::text[], $3::text[]) AS a(day, attempt_id, owner)
WHERE s.day = a.day AND s.attempt_id = a.attempt_id AND s.owner = a.owner AND s.state = 'submitting'
"""

PARK = """
INSERT INTO parked_receipt (carrier, receipt_key, state, error_code, error_description, carrier_code, retriable, parked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::timestamptz[])
ON CONFLICT (carrier, receipt_key) DO UPDATE
SET state = excluded.state, error_code = excluded.error_code, error_description = excluded.error_description,
    carrier_code = excluded.carrier_code, retriable = excluded.retriable, parked_at = excluded.parked_at
"""

PARKED_WITH_ROW = """
SELECT p.* FROM parked_receipt AS p
WHERE p.parked_at > $1
  AND EXISTS (
      SELECT FROM submission AS s WHERE s.carrier = p.carrier AND s.receipt_key = p.receipt_key AND s.state = 'sent')
LIMIT 1000
"""

UNPARK = """
DELETE FROM parked_receipt AS p USING unnest($1::text[], $2::text[]) AS w(carrier, receipt_key)
WHERE p.carrier = w.carrier AND p.receipt_key = w.receipt_key
"""

FORGET_PARKED = """
DELETE FROM parked_receipt WHERE parked_at < greatest(
    $1::timestamptz, (SELECT parked_at FROM parked_receipt ORDER BY parked_at DESC OFFSET ($2::int - 1) LIMIT 1))
"""

ADD_INBOUND = """
INSERT INTO inbound_part (carrier, sender, recipient, reference, total, number, body, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (carrier, sender, recipient, reference, total, number)
DO UPDATE SET body = excluded.body,
    received_at = CASE WHEN inbound_part.received_at > $9 THEN inbound_part.received_at ELSE excluded.received_at END
"""

INBOUND_BODIES = """
SELECT body, received_at FROM inbound_part
WHERE carrier = $1 AND sender = $2 AND recipient = $3 AND reference = $4 AND total = $5 AND received_at > $6
ORDER BY number
"""

FORGET_INBOUND = "DELETE FROM inbound_part WHERE received_at < $1"
