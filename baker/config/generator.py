"""Settings of generators: where the questions of a target come from.

All types accept the same fields, as in the published schema. A field that has no effect for its type is accepted, with
a warning of the stim. Only the fields that were set and a type's own defaults are stored and shown.
"""

from typing import Any, ClassVar, get_args

import msgspec

from baker import question_templates
from baker.config.mistakes import check, refusal
from baker.config.ranges import Positive, Questions, Seed, Temperature
from baker.errors import ConfigError
from baker.names import check_name

COMMON_FIELDS = frozenset({"type", "numq", "rollout_with_conditioned"})
MODEL_FIELDS = frozenset({"model", "temperature", "max_tokens", "seed"})


def stored_default(default: Any) -> Any:
    """A default that is stored and shown like a value that was set: `omit_defaults` keeps defaults from a factory."""
    return msgspec.field(default_factory=lambda: default)


class GeneratorConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """The fields of all types."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS
    """Names of the fields that have an effect for the type."""
    template_variables: ClassVar[tuple[str, ...]] = ()
    """Variables that the type's template must contain."""

    numq: Questions | None = None
    """Number of questions."""
    questions: list[str] = []
    """Questions of a `hardcoded` generator."""
    model: str | None = None
    """Model that writes the questions: an Anthropic model, or a model served here; absent: the served base model."""
    temperature: Temperature | None = None
    """Sampling temperature of that model."""
    max_tokens: Positive | None = None
    """Longest answer of that model (a list of questions), in tokens; absent: enough for short questions."""
    dataset: str | None = None
    """Name of a file in the service's `datasets` folder, a known name such as `squad`, or a Hugging Face Hub id."""
    column: str | None = None
    """Name of the dataset's column that holds the questions; absent: chosen by the first rows."""
    seed: Seed | None = None
    """Seed of random draws and of the model that writes questions."""
    template_path: str | None = None
    """Path `templates/<name>` of a text in the repo that asks a model for questions."""
    template_content: str | None = None
    """Text of the template; it is stored in the repo (`detach_templates`)."""
    rollout_with_conditioned: bool = False
    """Whether the rollout answers these questions under the student prompt."""

    def __post_init__(self) -> None:
        path, content, dataset = self.template_path, self.template_content, self.dataset
        required = self.template_variables
        check(
            None if path is None else refusal("template_path", lambda: question_templates.template_name(path)),
            None
            if content is None
            else refusal("template_content", lambda: question_templates.check_content(content, required)),
            None if dataset is None else refusal("dataset", lambda: _check_dataset(dataset)),
        )

    @property
    def type(self) -> str:
        return str(self.__struct_config__.tag)

    def unused_fields(self) -> list[str]:
        """Names of the fields that were set but have no effect."""
        return [field for field in msgspec.to_builtins(self) if field not in self.uses]


class Hardcoded(GeneratorConfig, frozen=True, tag="hardcoded"):
    """The given questions; `numq` limits them to the first ones."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | {"questions"}


class Asking(GeneratorConfig, frozen=True):
    """A language model writes all of the questions."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | MODEL_FIELDS | {"template_path"}

    numq: Questions = stored_default(10)
    temperature: Temperature = stored_default(1.0)


class OneshotQs(Asking, frozen=True, tag="oneshot_qs"):
    """Questions that make the teacher prompt's effect visible."""

    template_variables: ClassVar[tuple[str, ...]] = question_templates.VARIABLES


class Custom(Asking, frozen=True, tag="custom"):
    """Questions that the user's own template asks for; it needs no variables."""


class Persona(GeneratorConfig, frozen=True, tag="persona"):
    """Questions that anyone might be asked, from a bank that ships with the service.

    If a `model` is named, it writes half of them: variations that suit the teacher prompt.
    """

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | MODEL_FIELDS

    numq: Questions = stored_default(25)
    seed: Seed = stored_default(42)
    """Seed of the draw from the bank, and of the model that writes variations."""


class FromDataset(GeneratorConfig, frozen=True, tag="from_dataset"):
    """Rows drawn from a dataset, each at most once."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | {"dataset", "column", "seed"}

    numq: Questions = stored_default(10)
    seed: Seed = stored_default(42)
    """Seed of the draw."""


Generator = Hardcoded | OneshotQs | Persona | FromDataset | Custom

TYPES = tuple(str(kind.__struct_config__.tag) for kind in get_args(Generator))


def without_nulls(generators: list[Any]) -> list[Any]:
    """The generators that a client sent, without null fields: null means absent."""
    return [
        {field: value for field, value in generator.items() if value is not None}
        if isinstance(generator, dict)
        else generator
        for generator in generators
    ]


def _check_dataset(dataset: str) -> None:
    """Raises: ConfigError unless `dataset` is a name or a Hub id `org/name`; it can't leave the folder of datasets."""
    parts = dataset.split("/")
    try:
        for part in parts:
            check_name(part, "dataset")
        if len(parts) > 2:
            raise ConfigError(f"it has {len(parts)} parts")
    except ConfigError as error:
        raise ConfigError(f"dataset must be a name or org/name, never a path, got {dataset!r}: {error}") from error


def detach_templates(generators: list[Generator]) -> tuple[list[Generator], dict[str, str]]:
    """The generators with each template's text replaced by its path, and the texts by name, for the store.

    Raises: ConfigError if two generators give different texts under one name.
    """
    detached: list[Generator] = []
    contents: dict[str, str] = {}
    for generator in generators:
        path, content = generator.template_path, generator.template_content
        if path is None and content is None:
            detached.append(generator)
            continue
        name = question_templates.name_for(content or "") if path is None else question_templates.template_name(path)
        if content is not None and contents.setdefault(name, content) != content:
            raise ConfigError(
                f"generators give {question_templates.template_path(name)!r} two different texts: use two names"
            )
        fields = {"template_path": question_templates.template_path(name), "template_content": None}
        detached.append(msgspec.structs.replace(generator, **fields))
    return detached, contents
