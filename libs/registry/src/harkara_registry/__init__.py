"""The compliance registry in memory and the one verdict over it: may this message be sent?

The edge asks it to answer at once, compliance asks it as the judge: the same rules over the same facts, so the two differ
only for as long as a fact is on its way. Pure: no clock, no I/O.
"""

from harkara_registry.departure import earliest_departure
from harkara_registry.refusal import Place, Refused
from harkara_registry.registry import KnownTemplate, Registry, RegistryFact
from harkara_registry.sandbox import (
    SANDBOX_NUMBERS,
    SANDBOX_PREFIX,
    SANDBOX_SENDER,
    SANDBOX_TEMPLATES,
    SandboxNumber,
)
from harkara_registry.statuses import Status
from harkara_registry.templates import compile_fact, declare_variables
from harkara_registry.text import MAX_SMS_PARTS
from harkara_registry.verdict import RenderedSms, Verdict, judge, judge_sms

__all__ = [
    "MAX_SMS_PARTS",
    "SANDBOX_NUMBERS",
    "SANDBOX_PREFIX",
    "SANDBOX_SENDER",
    "SANDBOX_TEMPLATES",
    "KnownTemplate",
    "Place",
    "Refused",
    "Registry",
    "RegistryFact",
    "RenderedSms",
    "SandboxNumber",
    "Status",
    "Verdict",
    "compile_fact",
    "declare_variables",
    "earliest_departure",
    "judge",
    "judge_sms",
]
