"""Names in the settings of targets and bakes that mean nothing yet, and settings that have no effect, as warnings.

Clients may save things in any order, so that what is missing now may come before the run, which checks it again.
"""

from collections.abc import Iterator

from baker.config import unsupported
from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import ConfigError, InvalidInputError, NotFoundError
from baker.question_templates import template_name, template_path
from baker.repos import models, prompts
from baker.repos.catalog import Catalog
from baker.suggestions import did_you_mean


def target_warnings(catalog: Catalog, user: str, repo: str, config: TargetConfig) -> list[str]:
    """What a run of the target would refuse, or do in another way, as far as it is known when the target is saved."""
    return [*_of_prompts(catalog, user, repo, config), *_of_generators(catalog, user, repo, config)]


def bake_warnings(catalog: Catalog, user: str, config: BakeConfig) -> list[str]:
    """The same of a bake."""
    field = "model.parent_model_name" if config.model.parent_model_name else "model_name"
    refusals = (f"this can't be run here: {refusal}" for refusal in unsupported.refusals(config))
    return [*_of_model(catalog, user, field, config.parent), *refusals, *unsupported.warnings(config)]


def _of_prompts(catalog: Catalog, user: str, repo: str, config: TargetConfig) -> Iterator[str]:
    for field, name in (("teacher_prompt", config.teacher_prompt), ("student_prompt", config.student_prompt)):
        if name:
            try:
                prompts.get(catalog, user, repo, name)
            except NotFoundError as error:
                yield f"{field}: {error.message}"
    yield from _of_model(catalog, user, "model_name", config.model_name)


def _of_generators(catalog: Catalog, user: str, repo: str, config: TargetConfig) -> Iterator[str]:
    templates = catalog.names("templates", user, repo)
    for index, generator in enumerate(config.generators):
        where = f"generators[{index}]"
        for field in generator.unused_fields():
            yield f"{where} is {generator.type}: {field} has no effect"
        if generator.model is not None and not generator.model.startswith("claude-"):
            yield from _of_model(catalog, user, f"{where}.model", generator.model)
        path = generator.template_path
        if path is not None and template_name(path) not in templates:
            hint = did_you_mean(path, map(template_path, templates))
            yield f"{where}.template_path: Template {path!r} not found in repo {repo!r}{hint}"


def _of_model(catalog: Catalog, user: str, field: str, name: str | None) -> Iterator[str]:
    if name is not None:
        try:
            warning = models.resolve(catalog, user, name).warning
        except (InvalidInputError, ConfigError) as error:
            warning = error.message
        if warning is not None:
            yield f"{field}: {warning}"
