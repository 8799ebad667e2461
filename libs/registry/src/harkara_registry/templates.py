"""Templates as facts: how their variables are named and typed, and compiled.

A body names its variables itself (`{#numeric:otp#}`) or takes names beside it, in order. A fact always lists all of them,
as they stand in the body, so that whoever reads it need not read the body.
"""

from collections.abc import Sequence

from harkara_contracts.facts import TemplateFact, TemplateVariable
from harkara_dlt import Kind, Template, TemplateError, compile_template
from harkara_dlt.variables import kind_of_tag


def declare_variables(body: str, declared: Sequence[TemplateVariable] | None) -> list[TemplateVariable]:
    """Return every variable of the body in order, named and typed by the tag or, where it is silent, by `declared`.

    `declared` lists either all variables or just those the body leaves unnamed.

    Raises:
        TemplateError: the body is no template, or what is declared does not fit it; the words tell how to mend it.
    """
    written = compile_template(body)
    declared = declared or []
    unnamed = [variable for variable in written.variables if not _names_itself(body, variable.position)]
    if declared and len(declared) not in {len(written.variables), len(unnamed)}:
        raise TemplateError(
            0,
            f"`variables` lists {len(declared)} but the body has {len(written.variables)}. "
            "List each once, in the order of the body.",
        )
    in_body = written.variables if len(declared) == len(written.variables) else unnamed
    by_position = {variable.position: stated for variable, stated in zip(in_body, declared, strict=False)}
    complete: list[TemplateVariable] = []
    for variable in written.variables:
        stated = by_position.get(variable.position)
        name, kind = variable.name, variable.kind
        if stated is not None:
            if _names_itself(body, variable.position) and stated.name != name:
                raise TemplateError(
                    variable.position, f"The body names a variable `{name}`, `variables` another. Give one name."
                )
            name, kind = stated.name, _agreed_kind(variable.name, kind, stated.type, variable.position)
        complete.append(TemplateVariable(name=name, type=kind.value))
    _compile(body, complete)
    return complete


def compile_fact(fact: TemplateFact) -> Template:
    """Compile a registered template.

    Raises:
        TemplateError: its body is no template.
    """
    return _compile(fact.body, fact.variables)


def _compile(body: str, variables: Sequence[TemplateVariable]) -> Template:
    if not variables:
        return compile_template(body)
    written = compile_template(body).variables
    names = [
        stated.name
        for variable, stated in zip(written, variables, strict=True)
        if not _names_itself(body, variable.position)
    ]
    kinds = [
        stated.type if variable.kind is Kind.VAR else None for variable, stated in zip(written, variables, strict=True)
    ]
    return compile_template(body, names, kinds=kinds)


def _names_itself(body: str, position: int) -> bool:
    return ":" in body[position : body.index("#}", position)]


def _agreed_kind(name: str, written: Kind, stated: str, position: int) -> Kind:
    """Return the kind both the tag and the declaration can mean; the old `{#var#}` takes any."""
    kind = kind_of_tag(stated.strip().removeprefix("{#").removesuffix("#}"))
    if kind is None:
        raise TemplateError(position, f"The type of the variable `{name}` is not known; use one of {', '.join(Kind)}.")
    if written not in {Kind.VAR, kind}:
        raise TemplateError(
            position, f"The variable `{name}` is {{#{written}#}} in the body but {kind} in `variables`. Give one type."
        )
    return kind
