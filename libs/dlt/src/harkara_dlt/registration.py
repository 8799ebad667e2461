"""What DLT portals refuse in a template's body, told before it is submitted.

Only clear faults are told: portals differ in matters of taste.
"""

import re
from typing import Final

from harkara_dlt.categories import TemplateCategory
from harkara_dlt.template import TAG
from harkara_dlt.variables import Kind, kind_of_tag

MAX_REGISTERED_CHARACTERS: Final = 2000
MIN_FIXED_CHARACTERS: Final = 10

_FOREIGN_TAG: Final = re.compile(r"##[^#\s]{1,40}##|\{\{[^{}]{1,40}\}\}")


def problems(body: str, category: TemplateCategory) -> list[str]:
    """Why `body` would be refused as a template of `category`, each with how to mend it; empty if it would not."""
    if not body.strip():
        return ["The template is empty."]
    found: list[str] = []
    tags = TAG.findall(body)
    fixed = TAG.sub("", body)
    found.extend(
        f"{{#{tag[:40]}#}} is not a known variable; write one of {', '.join(f'{{#{kind}#}}' for kind in Kind)}."
        for tag in dict.fromkeys(tags)
        if kind_of_tag(tag.partition(":")[0]) is None
    )
    if "{#" in fixed or "#}" in fixed:
        found.append("A variable is opened but not closed, or closed but not opened; write it as {#var#}.")
    if foreign := _FOREIGN_TAG.search(fixed):
        found.append(f"{foreign[0]} is not a DLT variable; write it as {{#var#}}.")
    if "  " in body:
        found.append("Two spaces stand side by side; leave one.")
    if "<" in fixed or ">" in fixed:
        found.append("The signs < and > are not allowed; use words or brackets.")
    if sum(not character.isspace() for character in fixed) < MIN_FIXED_CHARACTERS:
        found.append(f"The fixed text is too short; at least {MIN_FIXED_CHARACTERS} characters beside the variables.")
    if not tags and category is not TemplateCategory.PROMOTIONAL:
        found.append(f"A {category} template needs at least one variable, such as {{#var#}}.")
    if len(body) > MAX_REGISTERED_CHARACTERS:
        found.append(f"The template has {len(body)} characters; at most {MAX_REGISTERED_CHARACTERS} are allowed.")
    return found
