"""PouchDB in a real browser: a page of another origin syncs with two nodes, with a client certificate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from crdtdb.cli.demo.cluster import CLIENT, DemoCluster
from tests.interop.stories import HERE, need_node

pytestmark = pytest.mark.processes
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    need_node()
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium: Debian's package of that name has it")
    with DemoCluster(tmp_path_factory.mktemp("browser"), ("n1", "n2"), flags=("--cors", ORIGIN)) as made:
        made.start_all()
        made.ask("n1", "PUT", "notes")
        made.wait_equal(["notes"])
        yield made


@pytest.fixture(scope="module")
def page(cluster: DemoCluster) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        certificate = {
            "certPath": str(cluster.certs / f"{CLIENT}.pem"),
            "keyPath": str(cluster.certs / f"{CLIENT}.key"),
        }
        context = browser.new_context(
            ignore_https_errors=True,
            client_certificates=[{"origin": cluster.url(name), **certificate} for name in cluster.names],  # type: ignore[typeddict-item]
        )
        made = context.new_page()
        made.set_default_timeout(30_000)
        made.route(
            f"{ORIGIN}/**",
            lambda route: route.fulfill(body="<!doctype html><title>notes</title>", content_type="text/html"),
        )
        made.goto(f"{ORIGIN}/")
        made.add_script_tag(path=str(HERE / "node_modules" / "pouchdb" / "dist" / "pouchdb.min.js"))
        yield made
        browser.close()


STORY = """async ([one, other]) => {
  const until = async (what, condition) => {
    for (let n = 0; n < 400; n++) {
      try { if (await condition()) return } catch (error) { if (n === 399) throw error }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error(what)
  }
  const [ada, bob] = [new PouchDB('ada'), new PouchDB('bob')]
  const syncs = [
    ada.sync(one + '/notes', { live: true, retry: true }),
    bob.sync(other + '/notes', { live: true, retry: true })
  ]
  await ada.put({ _id: 'a', n: 1, _attachments: { f: { content_type: 'text/plain', data: new Blob(['hello']) } } })
  await until('bob has it', async () => (await bob.get('a')).n === 1)
  const text = await (await bob.getAttachment('a', 'f')).text()
  for (const sync of syncs) sync.cancel()
  const before = await ada.get('a')
  await ada.put({ ...before, n: 'of ada' })
  await bob.put({ ...before, n: 'of bob' })
  await ada.sync(one + '/notes')
  await until('both meet', async () => {
    await bob.sync(other + '/notes')
    await ada.sync(one + '/notes')
    const [a, b] = await Promise.all([ada, bob].map((db) => db.get('a', { conflicts: true })))
    return a._rev === b._rev && a._conflicts && b._conflicts && a._conflicts[0] === b._conflicts[0]
  })
  const winner = await ada.get('a', { conflicts: true })
  await ada.remove('a', winner._conflicts[0])
  await ada.sync(one + '/notes')
  return { text, rev: winner._rev }
}"""


def test_a_page_syncs_with_two_nodes(cluster: DemoCluster, page: Page) -> None:
    told = page.evaluate(STORY, [cluster.url("n1"), cluster.url("n2")])
    assert told["text"] == "hello"
    cluster.wait_equal(["notes"])
    for name in cluster.names:
        found = cluster.ask(name, "GET", "notes", "a", conflicts="true")
        assert (found["_rev"], "_conflicts" in found) == (told["rev"], False)


def test_a_page_of_another_origin_is_refused(cluster: DemoCluster, page: Page) -> None:
    other = page.context.new_page()
    other.route(
        "https://evil.example/**", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html")
    )
    other.goto("https://evil.example/")
    said = other.evaluate(
        "url => fetch(url, { credentials: 'include' }).then(() => 'answered', (error) => error.message)",
        cluster.url("n1") + "/notes",
    )
    assert said == "Failed to fetch"
