import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker import question_templates
from baker.errors import ConfigError
from baker.names import NAME_PATTERN

PLAIN = st.text(alphabet=st.characters(exclude_characters="$", exclude_categories=["Cs"]))
PIECES = st.lists(st.sampled_from(["a", "b.txt", "..", ".", "", "C:", "templates", "x y"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    "path", ["q.txt", "templates/q.txt", "/etc/q.txt", "../../q.txt", "C:\\docs\\q.txt", "templates/../up/q.txt"]
)
def test_only_the_last_part_of_a_path_counts(path: str) -> None:
    assert question_templates.template_path(question_templates.template_name(path)) == "templates/q.txt"


@pytest.mark.parametrize("path", ["", "templates/", "..", "a/..", "\\", "a b.txt", ".hidden", "q\n", "ä.txt"])
def test_a_path_without_a_legal_name_at_its_end_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="template name"):
        question_templates.template_name(path)


@given(PIECES, st.sampled_from("/\\"))
def test_no_path_leads_out_of_the_folder(pieces: list[str], separator: str) -> None:
    try:
        name = question_templates.template_name(separator.join(pieces))
    except ConfigError:
        return
    assert re.match(NAME_PATTERN, name)
    assert question_templates.template_name(question_templates.template_path(name)) == name


@given(PLAIN, PLAIN, PLAIN, PLAIN, st.integers(1, 99))
def test_variables_are_filled_in_and_the_rest_is_unchanged(a: str, b: str, c: str, prompt: str, numq: int) -> None:
    content = f"{a}${{numq}}{b}${{prompt_u}}{c}$$ ${{other}} $"
    rendered = question_templates.render(content, numq=numq, prompt_text=prompt)
    assert rendered == f"{a}{numq}{b}{prompt}{c}$ ${{other}} $"


def test_variables_in_the_prompt_are_not_filled_in() -> None:
    assert question_templates.render("${prompt_u}", numq=3, prompt_text="cost: ${numq} $$") == "cost: ${numq} $$"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "blank"),
        (" \n\t", "blank"),
        ("x" * question_templates.MAX_BYTES + "y", "1048577 bytes"),
        ("ä" * (question_templates.MAX_BYTES // 2) + "y", "1048577 bytes"),
        ("${numq}", r"lacks \$\{prompt_u\}"),
        ("$numq and $prompt_u", r"lacks \$\{numq\} and \$\{prompt_u\}"),
        ("$${numq} and ${prompt_u}", r"lacks \$\{numq\}"),
        ("${ numq } ${prompt_u}", r"lacks \$\{numq\}"),
    ],
)
def test_a_template_that_is_blank_too_long_or_lacks_a_variable_is_refused(content: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        question_templates.check_content(content, question_templates.VARIABLES)


def test_a_template_may_be_as_long_as_the_limit_and_need_no_variables() -> None:
    question_templates.check_content("x" * question_templates.MAX_BYTES)
    question_templates.check_content("$${numq} ${numq}${prompt_u}", question_templates.VARIABLES)
