"""Paths to go to after signing in."""

import pytest

from sync_pipeline.webserver.login.next_url import safe_next


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/assets/lumina/pos_orders?view=partitions#x", "/a//b", "/?u=https://x/", "/ä", "/%0a"]
)
def test_path_on_this_host_is_kept(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "runs",
        "//evil.test",
        "///evil.test/",
        "https://evil.test/",
        "https:/evil.test",
        "https:evil.test",
        "javascript:alert(1)",
        "/\\evil.test",
        "\\\\evil.test",
        "/runs\\..",
        "/\t/evil.test",
        "/\n/evil.test",
        "/\r\nSet-Cookie: a=b",
        " //evil.test",
        "/ /evil.test",
        "/\x00/evil.test",
        "/\x7f/evil.test",
        "/\u2028/evil.test",
        "/\u200b/evil.test",
        "/" + "a" * 2000,
    ],
)
def test_other_next_leads_to_the_start_page(path: str) -> None:
    assert safe_next(path) == "/"
    assert safe_next(path, "/prefix") == "/prefix/"
