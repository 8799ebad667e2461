"""India's DLT rules as pure functions: templates, headers, categories, URLs, chain hash."""

from harkara_dlt.categories import RULES, CategoryRules, ClientCategory, ConsentRule, TemplateCategory, accepts
from harkara_dlt.chain import chain_hash
from harkara_dlt.headers import HeaderKind, PreferenceCategory, header_kind, header_problem, preference_category
from harkara_dlt.ids import DltIdError, check_dlt_id, is_dlt_id
from harkara_dlt.links import Link, LinkKind, Whitelist, WhitelistError, find_links, unlisted_links
from harkara_dlt.matching import Match, Mismatch
from harkara_dlt.numbers import InvalidMobileError, normalise_mobile
from harkara_dlt.registration import problems
from harkara_dlt.template import RenderError, Template, TemplateError, compile_template
from harkara_dlt.variables import Kind, Variable
from harkara_dlt.window import IST, is_open, next_open

__all__ = [
    "IST",
    "RULES",
    "CategoryRules",
    "ClientCategory",
    "ConsentRule",
    "DltIdError",
    "HeaderKind",
    "InvalidMobileError",
    "Kind",
    "Link",
    "LinkKind",
    "Match",
    "Mismatch",
    "PreferenceCategory",
    "RenderError",
    "Template",
    "TemplateCategory",
    "TemplateError",
    "Variable",
    "Whitelist",
    "WhitelistError",
    "accepts",
    "chain_hash",
    "check_dlt_id",
    "compile_template",
    "find_links",
    "header_kind",
    "header_problem",
    "is_dlt_id",
    "is_open",
    "next_open",
    "normalise_mobile",
    "preference_category",
    "problems",
    "unlisted_links",
]
