"""Each rule drops what it says and nothing else; the report adds up."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.types import Message
from localsmith.training.data.duplicates import ExactDuplicateRule, NearDuplicateRule
from localsmith.training.data.filter import Rule, filtered
from localsmith.training.data.filter_recipe import FilterRecipe, filter_rules
from localsmith.training.data.language import LanguageRule
from localsmith.training.data.length import LengthRule
from localsmith.training.data.near_duplicates import NearDuplicates
from localsmith.training.data.perplexity import PerplexityRule
from localsmith.training.data.personal_data import PersonalDataRule, redacted
from localsmith.training.data.repetition import RepetitionRule, repetition_fault
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.shingles import jaccard, shingles
from localsmith.training.data.sources import FileSource, import_source
from localsmith.training.data.toxicity import ToxicityRule, toxicity_fault

DATA = Path(__file__).parents[2] / "data" / "training"
ENGLISH = "The quick brown fox jumps over the lazy dog and then sleeps in the warm sun."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und schläft dann in der Sonne."
WORDS = [f"w{i}" for i in range(200)]


def row(prompt: str, completion: str = "Yes.", group: str = "") -> TrainingRow:
    return TrainingRow((Message("user", prompt), Message("assistant", completion)), "t", group=group)


def kept(rule: Rule, *rows: TrainingRow) -> list[TrainingRow]:
    return filtered(rows, [rule])[0]


def real_rows(name: str) -> tuple[TrainingRow, ...]:
    return import_source(FileSource(DATA / f"{name}.jsonl"), 7).rows


def test_the_report_adds_up_and_shows_samples() -> None:
    rows = [row(ENGLISH), row(ENGLISH), row(GERMAN), row("x y z"), row(ENGLISH, "Call +49 30 901820 now.")]
    told: list[tuple[int, int, str]] = []
    rules = [ExactDuplicateRule(), LanguageRule(("en",)), PersonalDataRule("redact")]
    left, stages = filtered(rows, rules, lambda *call: told.append(call))
    assert [(stage.num_before, stage.num_dropped, stage.num_changed) for stage in stages] == [
        (5, 1, 0),
        (4, 1, 0),
        (3, 0, 1),
    ]
    assert stages[1].reasons == (("language de", 1),)
    assert stages[1].samples[0].text.startswith("Der schnelle")
    assert [call[2] for call in told] == ["exact duplicates", "language", "personal data"]
    assert all(done == total for done, total, _ in told)
    assert left[-1].completion == "Call [PHONE] now."


def test_a_stage_samples_every_reason_but_not_every_row() -> None:
    french = row("Le renard brun saute par-dessus le chien paresseux.")
    rows = [*(row(GERMAN + str(i)) for i in range(50)), french]
    stage = filtered(rows, [LanguageRule(("en",))])[1][0]
    assert {sample.reason for sample in stage.samples} == {"language de", "language fr"}
    assert len(stage.samples) == 4


def test_the_default_recipe_keeps_good_real_rows() -> None:
    rows = [*real_rows("gsm8k"), *real_rows("seed_tasks")]
    recipe = FilterRecipe(languages=("en",), toxicity=True)
    left, stages = filtered(rows, filter_rules(recipe))
    assert [item.source for item in rows if item not in left] == ["seed_tasks.jsonl:3"]
    assert stages[2].name == "repetition"


def test_length_counts_all_messages() -> None:
    rule = LengthRule(count_tokens=lambda text: len(text.split()), min_tokens=3, max_tokens=5)
    rows = [row("a"), row("a b"), row("a b c d"), row("a b c d e")]
    assert kept(rule, *rows) == rows[1:3]


@pytest.mark.parametrize(("least", "most"), [(-1, None), (5, 4), (0, 0)])
def test_limits_that_leave_no_room_are_refused(least: int, most: int | None) -> None:
    with pytest.raises(ValueError, match="leave no room"):
        LengthRule(count_tokens=len, min_tokens=least, max_tokens=most)


def test_language_leaves_short_text_and_asks_for_known_codes() -> None:
    assert len(kept(LanguageRule(("en",)), row("Ja.", "Nein."), row(GERMAN))) == 1
    assert len(kept(LanguageRule(("en", "de")), row(ENGLISH), row(GERMAN))) == 2
    for unknown in ((), ("xx",)):
        with pytest.raises(ValueError, match="languages must be among"):
            LanguageRule(unknown)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\nb\nb\nb", "duplicate lines"),
        ("a\n\nbb\n\nbb\n\nbb", "duplicate lines"),
        ("a b\nc d\ne f\ng h\nlonglonglonglong line\nlonglonglonglong line", "duplicate lines hold"),
        ("the same words " * 20, "repeated 5-grams"),
        (" ".join(f"{w} w0 w1" for w in WORDS[2:150]), "one 2-gram"),
        (" ".join([*WORDS, *WORDS[:40]]), "duplicate 7-grams hold more than 13 %"),
        (" ".join(WORDS), ""),
        ("Yes. Yes. Yes.", ""),
        ("", ""),
        ("one line\none line", ""),
    ],
)
def test_repetition_is_told_by_its_kind(text: str, fault: str) -> None:
    found = repetition_fault(text)
    assert fault in found
    assert bool(found) == bool(fault)


@settings(deadline=None)
@given(st.text(max_size=400))
def test_no_text_breaks_a_rule(text: str) -> None:
    repetition_fault(text)
    toxicity_fault(text)
    redacted(text)
    assert 0 < jaccard(shingles(text), shingles(text)) == 1


def test_a_loop_in_the_completion_is_found() -> None:
    assert kept(RepetitionRule(), row("Tell.", "and so on and so " * 12)) == []


def test_the_strangest_and_the_plainest_rows_go() -> None:
    values = {f"t{i}": float(i) for i in range(9)} | {"t9": math.nan, "t10": math.inf}
    rows = [row(name, "") for name in values]
    rule = PerplexityRule(lambda text: values[text.strip()], highest_share=0.1, lowest_share=0.1)
    assert kept(rule, *rows) == rows[1:9]
    with pytest.raises(ValueError, match="below 1 together"):
        PerplexityRule(len, highest_share=0.5, lowest_share=0.5)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I will kill you", "threat"),
        ("I\u2019ll kill you", "threat"),
        ("What an ASSHOLE!", "insult"),
        ("Scunthorpe, Essex and a shiitake", ""),
        ("He killed the process and hung up.", ""),
    ],
)
def test_toxicity_is_told_by_words_not_parts_of_words(text: str, kind: str) -> None:
    assert toxicity_fault(text) == kind
    assert len(kept(ToxicityRule(), row(text))) == (not kind)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Write to ann.b+c@mail.example.org, please", "Write to [EMAIL], please"),
        ("call (123) 456-7891 or 555-123-4567", "call [PHONE] or [PHONE]"),
        ("+44 20 7946 0958 and 030 901820 12", "[PHONE] and [PHONE]"),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "IBAN [IBAN] BIC COBADEFF"),
        ("AT611904300234573201", "[IBAN]"),
        ("AT61 1904 3002 3457 3201 THEN", "[IBAN] THEN"),
        ("card 4111 1111 1111 1111 exp 12", "card [CREDIT CARD] exp 12"),
        ("at 192.168.10.7 or 2001:db8::8a2e:370:7334", "at [IP ADDRESS] or [IP ADDRESS]"),
    ],
)
def test_personal_data_are_redacted(text: str, left: str) -> None:
    assert redacted(text)[0] == left


@pytest.mark.parametrize(
    "text",
    [
        "DE89 3704 0044 0532 0130 02",  # wrong checksum
        "4111 1111 1111 1112",  # wrong checksum
        "999.1.1.1 and 127.0.0.1 and ::",
        "std::vector and Ab::Cd at 12:30:45",
        "on 01-02-2015, in 1990-1995, for 10,000 - 20,000 of 0.45-0.25",
        "@home me@ a@b",
        "1 2 3 4 5 6 7 8 9 10 11",
        "3.14159265358979",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert redacted(text) == (text, frozenset())


def test_real_problems_hold_no_personal_data() -> None:
    assert all(not redacted(item.text)[1] for item in real_rows("gsm8k"))


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "a@", "1.", "a.", "+1", ":", "0 1", "AB12 ", "1-"])
def test_personal_data_take_linear_time(unit: str) -> None:
    import time

    def cost(times: int) -> float:
        text = unit * times
        begun = time.process_time()
        redacted(text)
        return time.process_time() - begun

    assert cost(100_000) < 2.0


def test_redaction_keeps_what_is_the_rows_own() -> None:
    text = "Ann writes from ann@example.org about rain, a lot of rain, all day long."
    own = TrainingRow(
        (Message("user", f"Sum up: {text}"), Message("assistant", "Rain.")),
        spans=((0, 8, 8 + len(text)), (1, 0, 5)),
    )
    changed = kept(PersonalDataRule("redact"), own)[0]
    assert changed.own_prompt == text.replace("ann@example.org", "[EMAIL]")
    assert kept(PersonalDataRule("drop"), own) == []


def test_real_near_duplicates_are_dropped_and_the_first_stays() -> None:
    left = kept(NearDuplicateRule(), *real_rows("dialogsum"))
    assert [item.source for item in real_rows("dialogsum") if item not in left] == [
        "dialogsum.jsonl:15",
        "dialogsum.jsonl:16",
    ]


def test_a_templates_words_make_no_duplicates() -> None:
    """Two texts of a few words in a long prompt share most of the prompt, and nothing else."""
    long = " ".join(WORDS)
    texts = ("a good film with fine music", "no rain today but much wind")
    rows = [
        TrainingRow(
            (Message("user", f"{long} {text}"), Message("assistant", "x")),
            spans=((0, len(long) + 1, len(long) + 1 + len(text)),),
        )
        for text in texts
    ]
    assert kept(NearDuplicateRule(), *rows) == rows


def test_forms_of_one_record_are_no_duplicates() -> None:
    rows = [row(ENGLISH, group="a"), row(ENGLISH + " ", group="a"), row(ENGLISH + "  ", group="b")]
    assert kept(NearDuplicateRule(), *rows) == rows[:2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=120, max_size=200), st.integers(0, 119))
def test_a_text_with_one_word_changed_is_found(words: list[str], place: int) -> None:
    changed = [*words[:place], "other", *words[place + 1 :]]
    first, second = row(" ".join(words)), row(" ".join(changed))
    exact = jaccard(shingles(" ".join([*words, "yes"])), shingles(" ".join([*changed, "yes"])))
    index = NearDuplicates()
    index.add(first)
    assert [match.jaccard for match in index.matches(second)] == ([exact] if exact >= 0.8 else [])


def test_a_threshold_that_the_bands_would_miss_is_refused() -> None:
    with pytest.raises(ValueError, match="0.7 to 1"):
        NearDuplicateRule(0.5)


def test_jaccard_is_that_of_the_sets_of_word_5_grams() -> None:
    one, other = "a b c d e f g", "a b c d e f x"
    assert jaccard(shingles(one), shingles(other)) == pytest.approx(2 / 4)
    assert shingles("Hello, World") == frozenset({"hello world"})
    assert len(shingles("今日は雨が降ります")) == 5


@pytest.mark.parametrize("recipe", [FilterRecipe(max_tokens=5), FilterRecipe(highest_perplexity_share=0.1)])
def test_a_recipe_without_its_measure_is_refused(recipe: FilterRecipe) -> None:
    with pytest.raises(ValueError, match="is None"):
        filter_rules(recipe)


def test_every_setting_turns_its_rule_on() -> None:
    everything = FilterRecipe(
        max_tokens=9, languages=("en",), toxicity=True, personal_data="drop", lowest_perplexity_share=0.1
    )
    nothing = FilterRecipe(exact_duplicates=False, repetition=False, near_duplicates=None)
    assert len(filter_rules(everything, len, len)) == 8
    assert filter_rules(nothing) == []
