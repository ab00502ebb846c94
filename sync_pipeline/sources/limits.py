"""Upper limits on what an API may send. The documented APIs stay far below each of them.

They exist because an API, or whoever answers in its place, may be hostile or broken: no response may take the memory,
the time or the disk of the machine. A response that exceeds a limit ends its request like any other source error.
"""

from typing import Final

MIB: Final = 2**20

# Decompressed bytes of a successful response: 200 orders of Pancake take about 6 MB, 500 insights about 1 MB.
MAX_BODY_BYTES: Final = 16 * MIB
# Decompressed bytes of any other response; errors show one sentence of it at most.
MAX_ERROR_BODY_BYTES: Final = MIB
# Bytes received for one response, chunk sizes and trailers included: some encodings decode to next to nothing.
MAX_WIRE_BYTES: Final = 2 * MAX_BODY_BYTES
# Bytes of status lines and headers, those of "100 Continue" included. Meta's usage headers take about 2 KB.
MAX_HEADER_BYTES: Final = 256 * 1024
# Seconds from the start of a request to the last byte of its response. Pancake takes 9 s for a page.
MAX_RESPONSE_S: Final = 300.0

# Bytes of memory for one response: its body, its text, and the parsed objects as estimated before parsing. A run starts
# at 130 MB, reaches 265 MB with a million ads, and must stay below 400 MB.
MAX_RESPONSE_MEMORY: Final = 100 * 10**6
# Objects and arrays in each other. Orders have about 6 levels.
MAX_JSON_DEPTH: Final = 64
# Characters of one JSON number: converting digits takes time that grows with their square.
MAX_NUMBER_LENGTH: Final = 400

# Pages in a row that bring no new row. Meta may send some empty pages before the next row.
MAX_PAGES_WITHOUT_NEW_ROWS: Final = 100
# Pages of one account's or shop's window: a million insights in pages of 25 are 40,000.
MAX_PAGES_PER_WINDOW: Final = 100_000
# Rows of one account's or shop's window, which are staged on the disk of Postgres.
MAX_ROWS_PER_WINDOW: Final = 10_000_000
# Entries of one listing whose ids are held in memory: orders or products of a shop.
MAX_LISTED_ENTRIES: Final = 500_000
# Ad accounts of one token, all of which are held in memory.
MAX_ACCOUNTS: Final = 10_000
# Ads of one account and window whose statuses are requested, all of which are held in memory.
MAX_ADS_PER_WINDOW: Final = 1_100_000
# Variations of a tenant's catalogue, and the characters in their texts, all of which are held in memory.
MAX_CATALOGUE_ROWS: Final = 150_000
MAX_CATALOGUE_CHARACTERS: Final = 20_000_000

# Characters of the name of an account, a shop or a user, and of similar short texts.
MAX_NAME_LENGTH: Final = 500
# Characters of the URL of a next page, of which only the cursor is used.
MAX_URL_LENGTH: Final = 32_768
# Characters of a text that is redacted to be shown; what is shown are 500 at most.
MAX_REDACTED_LENGTH: Final = 100_000
