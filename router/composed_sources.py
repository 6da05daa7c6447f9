"""Source questions: what composed questions are made of, each one question of one domain, in the style of its source.

The pocket fleet's questions are generated here; the others are read from a folder of routing data.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experts.errors import ConfigurationError
from experts.pocket.tasks import DOMAINS, draw_exercise

Half = Literal["train", "held_out"]

MAX_SOURCE_CHARS = 900
"""About 200 tokens: a longer one fills the encoder's window alone."""
HELD_OUT_PERCENT = 20
POCKET_EXERCISES = 160
"""Drawn for each pocket domain, three questions each."""

# Larson et al. 2019, domains.json of CLINC150: which of its ten domains an intent belongs to. The eight that ask for
# something a domain expert could know; small talk and requests to the assistant itself are the domain 'assistant'.
_CLINC = {
    "banking": "transfer transactions balance freeze_account pay_bill bill_balance bill_due interest_rate routing "
    "min_payment order_checks pin_change report_fraud account_blocked spending_history",
    "credit_cards": "credit_score report_lost_card credit_limit rewards_balance new_card application_status "
    "card_declined international_fees apr redeem_rewards credit_limit_change damaged_card replacement_card_duration "
    "improve_credit_score expiration_date",
    "kitchen": "recipe restaurant_reviews calories nutrition_info restaurant_suggestion ingredients_list "
    "ingredient_substitution cook_time food_last meal_suggestion restaurant_reservation confirm_reservation how_busy "
    "cancel_reservation accept_reservations",
    "home": "shopping_list shopping_list_update next_song play_music update_playlist todo_list todo_list_update "
    "calendar calendar_update what_song order order_status reminder reminder_update smart_home",
    "auto": "traffic directions gas gas_type distance current_location mpg oil_change_when oil_change_how jump_start "
    "uber schedule_maintenance last_maintenance tire_pressure tire_change",
    "travel": "book_flight book_hotel car_rental travel_suggestion travel_alert travel_notification carry_on timezone "
    "vaccines translate flight_status international_visa lost_luggage plug_type exchange_rate",
    "utility": "time alarm share_location find_phone weather text spelling make_call timer date calculator "
    "measurement_conversion flip_coin roll_dice definition",
    "work": "direct_deposit pto_request taxes payday w2 pto_balance pto_request_status next_holiday insurance "
    "insurance_change schedule_meeting pto_used meeting_schedule rollover_401k income",
}
_DOMAIN_OF_INTENT = {intent: domain for domain, intents in _CLINC.items() for intent in intents.split()}
_OPTIONS = re.compile(r"\n[A-J]\. ")


@dataclass(frozen=True, slots=True)
class SourceQuestion:
    """One question, whole as its source has it; `stem` is it without answer options, where it has some."""

    text: str
    stem: str
    domain: str
    source: str


def load_sources(folder: Path, half: Half) -> tuple[SourceQuestion, ...]:
    """The source questions of one half, each once, in the order of the files.

    Raises ConfigurationError where a file is absent.
    """
    found = {question.text: question for question in (*_read_files(folder, half), *_draw_pocket(half))}
    return tuple(found.values())


def fingerprint_sources(folder: Path) -> str:
    """Names the files that `load_sources` reads by what they hold."""
    digest = hashlib.sha256()
    for name in ("clinc150", "mmlu_pro", "routellm_gsm8k", "routellm_mmlu"):
        digest.update(_path(folder, name).read_bytes())
    return digest.hexdigest()[:16]


def is_held_out(said: str, percent: int = HELD_OUT_PERCENT) -> bool:
    """Whether a text belongs to the held-out half: by its own hash, so that it never changes sides."""
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=4).digest()) % 100 < percent


def _path(folder: Path, name: str) -> Path:
    path = folder / "routing" / f"{name}.jsonl"
    if not path.is_file():
        raise ConfigurationError(f"'{path}' is absent; name a data folder with routing/{name}.jsonl")
    return path


def _read_files(folder: Path, half: Half) -> Iterator[SourceQuestion]:
    for name, text_key, domain_key in (
        ("clinc150", "text", "intent"),
        ("mmlu_pro", "question", "category"),
        ("routellm_gsm8k", "prompt", "subject"),
        ("routellm_mmlu", "prompt", "subject"),
    ):
        for line in filter(None, _path(folder, name).read_text(encoding="utf-8").split("\n")):
            row = json.loads(line)
            text = row[text_key].strip()
            stem = _OPTIONS.split(text, maxsplit=1)[0].strip()
            if not 8 <= len(text) <= MAX_SOURCE_CHARS or is_held_out(stem) != (half == "held_out"):
                continue
            domain = row[domain_key]
            if name == "clinc150":
                domain = _DOMAIN_OF_INTENT.get(domain, "assistant")
            yield SourceQuestion(text, stem, f"{name}/{domain}", name)


def _draw_pocket(half: Half) -> Iterator[SourceQuestion]:
    for domain in DOMAINS:
        rng = random.Random(f"{domain} {half}")  # noqa: S311 - not for secrets
        for _ in range(POCKET_EXERCISES // (4 if half == "held_out" else 1)):
            exercise = draw_exercise(domain, rng, held_out=half == "held_out", questions=3)
            for asked in exercise.asked:
                yield SourceQuestion(asked.question, asked.question, f"pocket/{domain}", "pocket")
