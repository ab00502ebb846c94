"""The demo's two tenants: what they advertise, where, and what they sell. Plain data; `world` fills it with days."""

from typing import NamedTuple


class AccountPlan(NamedTuple):
    """An ad account. `share` is its part of the tenant's ads; on `quiet_weekday` (Monday is 0) nothing is delivered.

    Ads of a `web_shop` count purchases and what leads to them, besides leads; those of a `messaging` account count
    conversations.
    """

    account_id: str
    name: str
    currency: str
    timezone: str
    share: float
    quiet_weekday: int | None = None
    web_shop: bool = False
    messaging: bool = False


class ShopPlan(NamedTuple):
    """A shop, seen by the key in `key_variable`.

    Some shops write orders in another way: `text_ids` with ids as text, `order_items` with items under that name.
    """

    shop_id: int
    name: str
    key_variable: str
    share: float
    quiet_weekday: int | None = None
    text_ids: bool = False
    order_items: bool = False


class ProductPlan(NamedTuple):
    """A product, sold in two sizes by every shop of the tenant; `price` and `unit_cost` in the tenant's currency."""

    name: str
    mapping: str
    code: str
    price: int
    unit_cost: int


class TenantPlan(NamedTuple):
    """A tenant with everything both APIs know of it."""

    name: str
    title: str
    timezone: str
    currency: str
    market: str
    meta_variable: str
    accounts: tuple[AccountPlan, ...]
    shops: tuple[ShopPlan, ...]
    products: tuple[ProductPlan, ...]
    associates: tuple[str, ...]


LUMINA = TenantPlan(
    name="lumina",
    title="Lumina Skin",
    timezone="Asia/Manila",
    currency="PHP",
    market="PH",
    meta_variable="LUMINA_META_TOKEN",
    accounts=(
        AccountPlan("100000000000101", "Lumina Main", "PHP", "Asia/Manila", 0.5),
        AccountPlan("100000000000102", "Lumina Prospecting", "PHP", "Asia/Manila", 0.35, quiet_weekday=6),
        AccountPlan("100000000000103", "Lumina US", "USD", "America/Los_Angeles", 0.15, web_shop=True),
    ),
    shops=(
        ShopPlan(310001, "Lumina Manila", "LUMINA_PANCAKE_KEY", 0.55),
        ShopPlan(310002, "Lumina Cebu", "LUMINA_PANCAKE_KEY", 0.45, text_ids=True),
    ),
    products=(
        ProductPlan("Serum", "serum", "SER", 599, 100),
        ProductPlan("Toner", "toner", "TON", 449, 80),
        ProductPlan("Sunblock", "sunblock", "SUN", 399, 70),
        ProductPlan("Night Cream", "nightcream", "NCR", 699, 150),
        ProductPlan("Soap", "soap", "SOA", 149, 25),
        ProductPlan("Lip Tint", "liptint", "LIP", 249, 45),
    ),
    associates=("ALY", "BEA", "Carlo", "DEX", "Ella"),
)

MEKONG = TenantPlan(
    name="mekong",
    title="Mekong Farm",
    timezone="Asia/Ho_Chi_Minh",
    currency="VND",
    market="VN",
    meta_variable="MEKONG_META_TOKEN",
    accounts=(
        AccountPlan("100000000000201", "Mekong Hanoi", "VND", "Asia/Ho_Chi_Minh", 0.6),
        AccountPlan("100000000000202", "Mekong Saigon", "VND", "Asia/Ho_Chi_Minh", 0.4, messaging=True),
    ),
    shops=(
        ShopPlan(320001, "Mekong Hanoi", "MEKONG_PANCAKE_KEY_HANOI", 0.5),
        ShopPlan(320002, "Mekong Saigon", "MEKONG_PANCAKE_KEY_SAIGON", 0.5, quiet_weekday=6, order_items=True),
    ),
    products=(
        ProductPlan("Coffee", "coffee", "COF", 180_000, 45_000),
        ProductPlan("Lotus Tea", "lotustea", "TEA", 150_000, 38_000),
        ProductPlan("Honey", "honey", "HON", 220_000, 70_000),
        ProductPlan("Cashew", "cashew", "CAS", 260_000, 95_000),
        ProductPlan("Agriblast", "agriblast", "AGR", 320_000, 100_000),
    ),
    associates=("LINH", "MINH", "Trang", "QUAN"),
)

DEMO_TENANTS = (LUMINA, MEKONG)
