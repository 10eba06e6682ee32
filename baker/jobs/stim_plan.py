"""What a stim needs before it may start: each generator's model, template and dataset are chosen and copied here.

Blocks, like the catalog that it reads: see `storage/one_thread.py`.
"""

import msgspec

from baker import question_templates
from baker.config.generator import Asking, Custom, FromDataset, Generator, Hardcoded, Persona
from baker.errors import ConfigError, InvalidInputError
from baker.jobs.policy import Policy
from baker.jobs.prompts import prompts_of
from baker.questions import bank
from baker.questions.datasets import QuestionSets
from baker.questions.writers import ANTHROPIC_MAX_TEMPERATURE
from baker.repos import models, targets
from baker.repos.catalog import Catalog
from baker.storage.job import StimJob
from baker.storage.job_inputs import GeneratorPlan, StimInputs, WriterPlan


def plan_stim(catalog: Catalog, policy: Policy, user: str, repo: str, name: str) -> StimJob:
    """Raises: NotFoundError; InvalidInputError with what is missing."""
    config = targets.get(catalog, user, repo, name)
    teacher, student = prompts_of(catalog, user, repo, name, config)
    if not config.generators:
        raise InvalidInputError(f"Target {name!r} has no generators: add at least one before stim")
    # Only the rollout uses it, but once the stim is made the target can't be changed any more.
    if config.model_name is not None:
        models.resolve(catalog, user, config.model_name)
    planner = GeneratorPlanner(
        catalog, user, repo, has_anthropic_key=policy.has_anthropic_key, stim_fallback=policy.stim_fallback
    )
    plans = [planner.plan(generator, f"generators[{index}]") for index, generator in enumerate(config.generators)]
    inputs = StimInputs(teacher, student, plans)
    return StimJob(
        user=user,
        repo=repo,
        name=name,
        config=config,
        inputs=inputs,
        depends_on=[awaited.job for awaited in inputs.awaited],
        warnings=planner.warnings,
    )


class GeneratorPlanner:
    """Plans the generators of one target. `warnings` lists every deviation from its settings."""

    def __init__(self, catalog: Catalog, user: str, repo: str, *, has_anthropic_key: bool, stim_fallback: bool) -> None:
        """Args: stim_fallback: whether the served model may replace an Anthropic model if there is no key."""
        self.warnings: list[str] = []
        self._catalog = catalog
        self._user = user
        self._repo = repo
        self._has_anthropic_key = has_anthropic_key
        self._stim_fallback = stim_fallback

    def plan(self, generator: Generator, where: str) -> GeneratorPlan:
        """Args: where: the generator's name in errors and warnings.

        Raises: InvalidInputError with what is missing.
        """
        self.warnings += [f"{where} is {generator.type}: {field} has no effect" for field in generator.unused_fields()]
        match generator:
            case Hardcoded():
                if not generator.questions:
                    raise InvalidInputError(f"{where} is hardcoded and has no questions: add them")
                return GeneratorPlan()
            case Asking() if self._lacks_key(generator.model) and self._catalog.base.stands_in and self._stim_fallback:
                return self._from_bank(generator, where)
            case Asking():
                return GeneratorPlan(writer=self._writer(generator, where), template=self._template(generator, where))
            case Persona():
                return self._persona(generator, where)
            case FromDataset():
                if generator.dataset is None:
                    raise InvalidInputError(f"{where} is from_dataset and names no dataset: set `dataset`")
                return GeneratorPlan(dataset=QuestionSets(self._catalog.store.home).find(generator.dataset))

    def _persona(self, generator: Persona, where: str) -> GeneratorPlan:
        """The bank gives what it has. A model that the target names writes half of the questions; any model writes
        those that the bank lacks."""
        lacking = max(0, generator.numq - sum(map(len, bank.bank().values())))
        model = generator.model
        if model is not None and self._lacks_key(model):
            self.warnings.append(
                f"{where}: there is no Anthropic key for {model!r}, so its questions come from the built-in bank"
            )
        elif model is not None:
            return GeneratorPlan(writer=self._writer(generator, where), written=max(generator.numq // 2, lacking))
        # The bank's questions are better than those of a small served model, which writes only what is missing.
        return GeneratorPlan(writer=self._writer(generator, where), written=lacking) if lacking else GeneratorPlan()

    def _from_bank(self, generator: Asking, where: str) -> GeneratorPlan:
        """The embedded model is too small to write questions that bring out a prompt. The bank has some for any prompt
        (benchmarks/README.md)."""
        self._template(generator, where)  # one that is missing or broken is an error all the same
        fields = {field: getattr(generator, field) for field in ("numq", "seed", "rollout_with_conditioned")}
        persona = Persona(**{name: value for name, value in fields.items() if value is not None})
        self.warnings.append(
            f"{where}: there is no Anthropic key for {generator.model!r}, and {self._catalog.base.served!r} is too "
            "small to write good questions: these are from the built-in bank, chosen by how much the prompt changes "
            "their answers"
        )
        return msgspec.structs.replace(self._persona(persona, where), replacement=persona)

    def _lacks_key(self, model: str | None) -> bool:
        return model is not None and _is_anthropic(model) and not self._has_anthropic_key

    def _writer(self, generator: Asking | Persona, where: str) -> WriterPlan:
        model = generator.model
        if model is None:
            return WriterPlan("served", self._catalog.base.served)
        if self._lacks_key(model):
            return self._replacement(model, where)
        if _is_anthropic(model):
            self._warn_of_anthropic_limits(generator, where)
            return WriterPlan("anthropic", model)
        resolved = models.resolve(self._catalog, self._user, model)
        if resolved.warning is not None:
            self.warnings.append(f"{where}: {resolved.warning}")
        checkpoint = None if resolved.checkpoint is None else resolved.checkpoint.name
        return WriterPlan("served", model, checkpoint, resolved.awaited)

    def _replacement(self, model: str, where: str) -> WriterPlan:
        served = self._catalog.base.served
        if not self._stim_fallback:
            raise InvalidInputError(
                f"{where} names {model!r}, and there is no Anthropic key: set ANTHROPIC_API_KEY, name the served model "
                f"{served!r}, or allow it as the replacement with BREAD_STIM_FALLBACK=on"
            )
        self.warnings.append(
            f"{where}: there is no Anthropic key, so {served!r} writes the questions in place of {model!r}"
        )
        return WriterPlan("served", served)

    def _warn_of_anthropic_limits(self, generator: Asking | Persona, where: str) -> None:
        temperature = generator.temperature
        if temperature is not None and temperature > ANTHROPIC_MAX_TEMPERATURE:
            self.warnings.append(
                f"{where}: Anthropic takes temperatures up to {ANTHROPIC_MAX_TEMPERATURE}, not {temperature}"
            )
        if isinstance(generator, Asking) and generator.seed is not None:
            self.warnings.append(f"{where}: Anthropic takes no seed, so another run gives other questions")

    def _template(self, generator: Asking, where: str) -> str | None:
        if generator.template_path is None:
            if isinstance(generator, Custom):
                raise InvalidInputError(f"{where} is custom and has no template: set template_content")
            return None
        content = self._catalog.store.template(
            self._user, self._repo, question_templates.template_name(generator.template_path)
        )
        if content is None:
            existing = ", ".join(
                map(question_templates.template_path, self._catalog.names("templates", self._user, self._repo))
            )
            raise InvalidInputError(
                f"{where} names {generator.template_path!r}, which repo {self._repo!r} does not have; its templates: "
                f"{existing or 'none'}. Send the text as template_content"
            )
        try:
            question_templates.check_content(content, generator.template_variables)
        except ConfigError as error:
            raise InvalidInputError(f"{where}: {generator.template_path!r}: {error}") from error
        return content


def _is_anthropic(model: str) -> bool:
    return model.startswith("claude-")
