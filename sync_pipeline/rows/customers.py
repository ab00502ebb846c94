"""Orders without the people who placed them: what of a raw order may be kept of a customer who never asked for it."""

import re
from functools import lru_cache
from typing import Any, Final

from sync_pipeline.rows import values

# The names of Pancake's fields have 40 characters at most.
_LONGEST_KEY: Final = 200
_WORD: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# Anywhere in a key whose words are written together: none of these is part of another word that Pancake uses.
_STEMS: Final = re.compile(
    r"customer|recipient|receiver|consignee|conversation"
    r"|phone|whatsapp|email|address"
    r"|(?:full|first|middle|last|given|family|nick|contact|ship|shipping|delivery)name"
)
_PERSONS: Final = frozenset({"buyer", "courier", "shipper", "driver", "rider", "deliverer", "contact", "contacts"})
_TRAITS: Final = frozenset({"surname", "birth", "birthday", "dob", "gender", "avatar", "passport"})
_WAYS_TO_REACH: Final = frozenset({"tel", "mobile", "mail", "zalo", "viber", "telegram", "psid"})
# Pancake itself writes commnue, too.
_PLACES: Final = frozenset(
    {"street", "ward", "commune", "commnue", "village", "barangay", "district", "province", "city"}
    | {"postcode", "postal", "zip"}
)
# Staff, couriers and customers write phones and addresses into free text; a link opens the order's page or the chat to
# anybody who has it.
_TEXTS: Final = frozenset(
    {"note", "notes", "comment", "comments", "message", "messages", "instruction", "instructions", "link", "links"}
    | {"einvoice", "einvoices"}
)
_WORDS: Final = _PERSONS | _TRAITS | _WAYS_TO_REACH | _PLACES | _TEXTS
_KEYS: Final = frozenset({"fb_id", "post_code", "bank_transfer_images"})
# Who edited what: values old and new under keys of their own, which no rule on keys can vouch for.
_LOGS: Final = frozenset({"histories", "activities"})
# What the rules above would take and is no person's: COGS and mapping read the first, the others are amounts and the
# parcel's page at the courier.
_KEPT: Final = frozenset({"note_product", "discount_by_customer_level", "buyer_total_amount", "tracking_link"})


def without_customer_data(raw: values.Raw) -> dict[str, Any]:
    """Copy a raw order without its customer's names, phones, e-mail and postal addresses, however deep they are.

    What goes is told by keys: everything of the bill and the customer, the shipping address whole (a province with a
    village in it names a household), addressees and couriers, notes and other free text but an item's `note_product`,
    edit logs, and links and ids of conversations. A true or false stays under any key. Kept are ids, items with names
    of products, money, marketing parameters, tracking, statuses with their times, and staff's names.
    """
    kept: dict[str, Any] = {}
    # Not by recursion: an order may be nested deeper than the stack, which is for the writing of JSON to refuse.
    unread: list[tuple[Any, Any]] = [(raw, kept)]
    while unread:
        found, copy = unread.pop()
        if type(copy) is dict:
            for key, value in found.items():
                kind = type(value)
                if is_customer_key(key) and kind is not bool:
                    continue
                if kind is dict or kind is list:
                    copy[key] = kind()
                    unread.append((value, copy[key]))
                else:
                    copy[key] = value
        else:
            for value in found:
                kind = type(value)
                if kind is dict or kind is list:
                    copy.append(kind())
                    unread.append((value, copy[-1]))
                else:
                    copy.append(value)
    return kept


def is_customer_key(key: str) -> bool:
    """Whether what stands under a key of an order may name a customer or courier, or lead to one.

    A key that is longer than any field's name is text of its own, and may hold anything.
    """
    return len(key) > _LONGEST_KEY or _names_customer(key)


@lru_cache(maxsize=4096)
def _names_customer(key: str) -> bool:
    words = [word.lower() for word in _WORD.findall(_CAMEL.sub("_", key))]
    name = "_".join(words)
    if name in _KEPT:
        return False
    return (
        words[:1] in (["bill"], ["billing"])
        or name in _KEYS
        or name in _LOGS
        or not _WORDS.isdisjoint(words)
        or _STEMS.search("".join(words)) is not None
    )
