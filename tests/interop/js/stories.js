// Stories of PouchDB clients and crdtdb nodes: run as `node stories.js NAME`.
'use strict'

const { createHash } = require('crypto')
const assert = require('assert')
const { Agent } = require('undici')
const { ask, leaves, local, refused, remote, setup, tell, tls, until } = require('./common')
const people = require('./people')
const queries = require('./queries')

const stories = {
  ...people,
  ...queries,

  async immediateConflict () {
    const db = remote('n1', 'notes')
    const first = await db.put({ _id: 'a', title: 'x' })
    const error = await refused(db.put({ _id: 'a', title: 'y' }))
    assert.strictEqual(error.status, 409)
    assert.strictEqual(error.name, 'conflict')
    const again = await refused(db.put({ _id: 'a', _rev: '1-' + '0'.repeat(32), title: 'y' }))
    assert.strictEqual(again.status, 409)
    const second = await db.put({ _id: 'a', _rev: first.rev, title: 'y' })
    assert.ok(second.rev.startsWith('2-'))
    await db.upsert('a', (doc) => ({ ...doc, count: (doc.count || 0) + 1 }))
    await Promise.all([1, 2, 3, 4, 5].map(() => db.upsert('a', (doc) => ({ ...doc, count: doc.count + 1 }))))
    assert.strictEqual((await db.get('a')).count, 6)
    assert.strictEqual((await db.putIfNotExists('a', { other: true })).updated, false)
    assert.strictEqual((await db.putIfNotExists('b', { other: true })).updated, true)
    assert.strictEqual((await db.get('b')).other, true)
    const missing = await refused(db.get('nobody'))
    assert.deepStrictEqual([missing.status, missing.reason], [404, 'missing'])
    await db.remove(await db.get('b'))
    assert.strictEqual((await refused(db.get('b'))).reason, 'deleted')
    const bulk = await db.bulkDocs([{ _id: 'a', title: 'no rev' }, { _id: 'c', title: 'new' }, { title: 'drawn' }])
    assert.deepStrictEqual(bulk.map((one) => one.error || 'ok'), ['conflict', 'ok', 'ok'])
  },

  async eventualConflict () {
    const server = remote('n1', 'notes')
    const [ada, bob] = [local('ada'), local('bob')]
    await ada.put({ _id: 'a', title: 'first' })
    await ada.sync(server)
    await bob.sync(server)
    await ada.put({ ...(await ada.get('a')), title: 'of ada' })
    await bob.put({ ...(await bob.get('a')), title: 'of bob' })
    await ada.sync(server)
    await bob.sync(server)
    await ada.sync(server)
    const seen = await Promise.all([ada, bob, server].map((db) => db.get('a', { conflicts: true })))
    for (const one of seen) assert.deepStrictEqual(one, seen[0])
    assert.strictEqual(seen[0]._conflicts.length, 1)
    const loser = await server.get('a', { rev: seen[0]._conflicts[0] })
    assert.ok(['of ada', 'of bob'].includes(loser.title) && loser.title !== seen[0].title)
    // One is resolved by removing the loser…
    await ada.remove('a', loser._rev)
    await ada.sync(server)
    await bob.sync(server)
    for (const db of [ada, bob, server]) assert.strictEqual((await db.get('a', { conflicts: true }))._conflicts, undefined)
    // …another by a new revision on the winner, and the loser removed.
    await ada.put({ ...(await ada.get('a')), title: 'again ada' })
    await bob.put({ ...(await bob.get('a')), title: 'again bob' })
    await ada.sync(server)
    await bob.sync(server)
    const winner = await bob.get('a', { conflicts: true })
    await bob.put({ _id: 'a', _rev: winner._rev, title: 'both' })
    await bob.remove('a', winner._conflicts[0])
    await bob.sync(server)
    await ada.sync(server)
    for (const db of [ada, bob, server]) {
      const now = await db.get('a', { conflicts: true })
      assert.deepStrictEqual([now.title, now._conflicts], ['both', undefined])
    }
    assert.deepStrictEqual(await leaves(ada, 'a'), await leaves(server, 'a'))
    assert.deepStrictEqual(await leaves(bob, 'a'), await leaves(server, 'a'))
  },

  async deltas () {
    const server = remote('n1', 'deltas')
    const [ada, bob] = [local('ada-deltas'), local('bob-deltas')]
    for (const db of [ada, bob]) db.deltaInit()
    const made = await ada.save({ title: 'x', priority: 1 })
    await ada.sync(server)
    await bob.sync(server)
    await ada.save({ $id: made.id, title: 'of ada' })
    await new Promise((resolve) => setTimeout(resolve, 5)) // delta-pouch names a delta by its millisecond
    await bob.save({ $id: made.id, priority: 7 })
    await ada.sync(server)
    await bob.sync(server)
    await ada.sync(server)
    for (const db of [ada, bob]) {
      const docs = await db.all()
      assert.deepStrictEqual([docs[made.id].title, docs[made.id].priority], ['of ada', 7])
    }
  },

  async liveSync () {
    const [ada, bob] = [local('ada-live'), local('bob-live')]
    const syncs = [
      ada.sync(remote('n1', 'live'), { live: true, retry: true }),
      bob.sync(remote('n2', 'live'), { live: true, retry: true })
    ]
    await ada.put({ _id: 'a', n: 1, _attachments: { 'a.txt': { content_type: 'text/plain', data: Buffer.from('hello').toString('base64') } } })
    await until('bob has the document', async () => (await bob.get('a')).n === 1)
    assert.strictEqual((await bob.getAttachment('a', 'a.txt')).toString(), 'hello')
    await bob.put({ ...(await bob.get('a')), n: 2 })
    await until('ada has the edit', async () => (await ada.get('a')).n === 2)
    assert.strictEqual((await ada.getAttachment('a', 'a.txt')).toString(), 'hello')
    await ada.bulkDocs([...Array(200).keys()].map((n) => ({ _id: `bulk${n}`, n })))
    await until('bob has them all', async () => (await bob.info()).doc_count === 201)
    await bob.remove(await bob.get('bulk7'))
    await until('ada has the deletion', async () => (await refused(ada.get('bulk7'))).reason === 'deleted')
    // A node dies, and its client goes on with another.
    await ask('kill n1')
    await ada.put({ _id: 'while n1 was down', n: 1 })
    syncs[0].cancel()
    const moved = ada.sync(remote('n2', 'live'), { live: true, retry: true })
    await until('bob has what ada wrote', async () => (await bob.get('while n1 was down')).n === 1)
    await bob.put({ _id: 'from bob', n: 1 })
    await until('ada has what bob wrote', async () => (await ada.get('from bob')).n === 1)
    await ask('start n1')
    await until('n1 has everything', async () => (await remote('n1', 'live').get('from bob')).n === 1)
    for (const one of [moved, syncs[1]]) one.cancel()
  },

  async moves () {
    // Who moves from one node to another goes on where it was: nothing is read again, nothing is missed.
    const ada = local('ada-moves')
    await remote('n1', 'moves').bulkDocs([...Array(300).keys()].map((n) => ({ _id: `d${n}`, n })))
    await ada.replicate.from(remote('n1', 'moves'))
    await ask('wait equal')
    const since = (await remote('n1', 'moves').info()).update_seq
    await remote('n2', 'moves').put({ _id: 'later', n: 1 })
    const changes = await remote('n2', 'moves').changes({ since })
    const again = await ada.replicate.from(remote('n2', 'moves'))
    assert.strictEqual(again.docs_read, 1)
    assert.strictEqual((await ada.get('later')).n, 1)
    return changes.results.map((one) => one.id)
  },

  async fields () {
    // What crdtdb merged by itself is no conflict to PouchDB; what PouchDB changes counts once.
    const [ada, bob] = [local('ada-fields'), local('bob-fields')]
    await ask('make')
    await ada.sync(remote('n1', 'fields'))
    await bob.sync(remote('n2', 'fields'))
    const before = await ada.get('a')
    assert.deepStrictEqual([before.likes, before.tags, before.text], [5, ['t'], 'hello'])
    await ada.put({ ...before, likes: before.likes + 2, tags: ['t', 'u'] })
    await ask('edit on both')
    await ada.sync(remote('n1', 'fields'))
    await ada.sync(remote('n2', 'fields'))
    await ask('wait equal')
    await ada.sync(remote('n1', 'fields'))
    await bob.sync(remote('n2', 'fields'))
    await ask('wait equal')
    for (const db of [ada, bob, remote('n1', 'fields'), remote('n2', 'fields')]) {
      const now = await db.get('a', { conflicts: true })
      assert.deepStrictEqual([now.likes, now.tags, now.text, now._conflicts], [17, ['t', 'u'], 'hello world', undefined])
      assert.strictEqual(now._rev, (await ada.get('a'))._rev)
    }
  },

  async closedBranch () {
    // History 16: a resolved loser is known to a PouchDB that was away; its next push doesn't bring it back.
    const [ada, bob] = [local('ada-closed'), local('bob-closed')]
    const server = remote('n1', 'closed')
    await ada.put({ _id: 'a', title: 'x' })
    await ada.sync(server)
    await bob.sync(server)
    await ada.put({ ...(await ada.get('a')), title: 'ada' })
    await bob.put({ ...(await bob.get('a')), title: 'bob' })
    await ada.sync(server)
    await bob.sync(server) // and now bob is away, with both branches
    await ask('resolve')
    await bob.replicate.to(server)
    const now = await server.get('a', { conflicts: true })
    assert.deepStrictEqual([now.title, now._conflicts], ['resolved', undefined])
    await bob.sync(server)
    assert.deepStrictEqual((await bob.get('a', { conflicts: true }))._conflicts, undefined)
    assert.strictEqual((await bob.get('a')).title, 'resolved')
  },

  async comesBack () {
    // History 32: a document with a counter and two bodies; what was read is replaced, and the replacement is deleted.
    const [ada, bob] = [local('ada-back'), local('bob-back')]
    const server = remote('n1', 'back')
    await ada.put({ _id: 'a', title: 'one' })
    await bob.put({ _id: 'a', title: 'two' })
    await ada.sync(server)
    await bob.sync(server)
    await ask('count')
    await ada.sync(server)
    const read = await ada.get('a', { conflicts: true })
    assert.deepStrictEqual([read.likes, read._conflicts.length], [1, 1])
    const child = await ada.put({ _id: 'a', _rev: read._rev, title: 'after', likes: read.likes })
    await ada.replicate.to(server)
    await bob.sync(server) // another's read, which publishes
    await ask('wait equal')
    await remote('n2', 'back').get('a')
    await ada.remove('a', child.rev)
    await ada.replicate.to(server)
    await ada.sync(server)
    const left = await server.get('a', { conflicts: true })
    assert.deepStrictEqual([left.title, left._conflicts], [read.title === 'one' ? 'two' : 'one', undefined])
    await bob.sync(server)
    for (const one of [ada, bob]) {
      const mine = await one.get('a', { conflicts: true })
      assert.deepStrictEqual([mine._rev, mine.title, mine._conflicts], [left._rev, left.title, undefined])
    }
  },

  async reborn () {
    // History 15, without collection: create, delete, pull, create with the same body: the PouchDB sees it.
    const [server, ada] = [remote('n1', 'reborn'), local('ada-reborn')]
    const first = await server.put({ _id: 'a', title: 'x' })
    await server.remove('a', first.rev)
    await ada.sync(server)
    assert.strictEqual((await refused(ada.get('a'))).status, 404)
    await server.put({ _id: 'a', title: 'x' })
    await ada.sync(server)
    assert.strictEqual((await ada.get('a')).title, 'x')
  },

  async rebornAfterCollection () {
    // History 15: create, delete, a PouchDB pulls, collect, create with the same body: the PouchDB sees it.
    const [server, ada] = [remote('n1', 'reborn2'), local('ada-reborn2')]
    const first = await server.put({ _id: 'a', title: 'x' })
    await ada.sync(server)
    await server.remove('a', first.rev)
    await ada.sync(server)
    assert.strictEqual((await refused(ada.get('a'))).status, 404)
    await ask('collected')
    const again = await server.put({ _id: 'a', title: 'x' })
    assert.notStrictEqual(again.rev, first.rev)
    await ada.sync(server)
    assert.strictEqual((await ada.get('a')).title, 'x')
    assert.strictEqual((await ada.get('a'))._rev, again.rev)
  },

  async closedAfterCollection () {
    // History 16, after collection: the branch is gone from every node, and bob, who was away, still has it.
    const [ada, bob] = [local('ada-closed2'), local('bob-closed2')]
    const server = remote('n1', 'closed2')
    await ada.put({ _id: 'a', title: 'x' })
    await ada.sync(server)
    await bob.sync(server)
    await ada.put({ ...(await ada.get('a')), title: 'ada' })
    await bob.put({ ...(await bob.get('a')), title: 'bob' })
    await ada.sync(server)
    await bob.sync(server)
    await ask('resolve')
    await ask('collected')
    await bob.replicate.to(server)
    const now = await server.get('a', { conflicts: true })
    assert.deepStrictEqual([now.title, now._conflicts], ['resolved', undefined])
    await bob.sync(server)
    assert.strictEqual((await bob.get('a')).title, 'resolved')
    await ask('wait equal')
    const there = await remote('n2', 'closed2').get('a', { conflicts: true })
    assert.deepStrictEqual([there.title, there._conflicts], ['resolved', undefined])
  },

  async attachments () {
    const [server, ada] = [remote('n1', 'files'), local('ada-files')]
    const large = Buffer.alloc(700000, 'crdtdb ')
    const first = await server.putAttachment('a', 'folder/large.bin', large, 'application/octet-stream')
    await server.putAttachment('a', 'small.txt', first.rev, Buffer.from('small'), 'text/plain')
    const doc = await server.get('a')
    assert.deepStrictEqual(Object.keys(doc._attachments), ['folder/large.bin', 'small.txt'])
    assert.strictEqual(doc._attachments['folder/large.bin'].digest, 'md5-' + createHash('md5').update(large).digest('base64'))
    assert.strictEqual(doc._attachments['small.txt'].length, 5)
    assert.strictEqual((await server.getAttachment('a', 'small.txt')).toString(), 'small')
    assert.ok((await server.getAttachment('a', 'folder/large.bin')).equals(large))
    await ada.sync(server)
    assert.ok((await ada.getAttachment('a', 'folder/large.bin')).equals(large))
    await ada.removeAttachment('a', 'small.txt', (await ada.get('a'))._rev)
    await ada.sync(server)
    assert.deepStrictEqual(Object.keys((await server.get('a'))._attachments), ['folder/large.bin'])
    await ask('wait equal')
    assert.ok((await remote('n2', 'files').getAttachment('a', 'folder/large.bin')).equals(large))
    const old = await server.get('a', { rev: first.rev, attachments: true })
    assert.strictEqual(Buffer.from(old._attachments['folder/large.bin'].data, 'base64').length, 700000)
  },

  async trees () {
    // Revision trees from a generator, PouchDB → node → node → PouchDB: the same leaves and winner everywhere.
    const [from, to] = [local('trees-from'), local('trees-to')]
    for (const [id, revisions] of Object.entries(setup.trees)) {
      for (const one of revisions) await from.bulkDocs([{ _id: id, ...one }], { new_edits: false })
    }
    await from.replicate.to(remote('n1', 'trees'))
    await ask('wait equal')
    await to.replicate.from(remote('n2', 'trees'))
    for (const id of Object.keys(setup.trees)) {
      const wanted = await leaves(from, id)
      for (const db of [remote('n1', 'trees'), remote('n2', 'trees'), to]) {
        assert.deepStrictEqual(await leaves(db, id), wanted, id)
      }
      const winner = await from.get(id, { conflicts: true }).catch((error) => error.reason)
      for (const db of [remote('n1', 'trees'), remote('n2', 'trees'), to]) {
        const found = await db.get(id, { conflicts: true }).catch((error) => error.reason)
        if (winner._conflicts) { winner._conflicts.sort(); found._conflicts.sort() }
        assert.deepStrictEqual(found, winner, id)
      }
    }
  },

  async nano () {
    const nano = require('nano')({ url: setup.urls.n1, agentOptions: new Agent({ connect: tls }) })
    await nano.db.create('nanos')
    assert.strictEqual((await refused(nano.db.create('nanos'))).statusCode, 412)
    const db = nano.use('nanos')
    const first = await db.insert({ title: 'x' }, 'a')
    await db.insert({ title: 'y', _rev: first.rev }, 'a')
    assert.strictEqual((await db.get('a', { revs_info: true }))._revs_info.length, 2)
    const head = await db.head('a')
    assert.ok(head.etag.startsWith('"2-'))
    await db.bulk({ docs: [{ _id: 'b' }, { _id: 'c' }] })
    assert.deepStrictEqual((await db.list({ include_docs: true, startkey: 'b' })).rows.map((row) => row.doc._id), ['b', 'c'])
    assert.deepStrictEqual((await db.fetch({ keys: ['c', 'nobody'] })).rows.map((row) => row.id || row.error), ['c', 'not_found'])
    await db.attachment.insert('b', 'a.txt', Buffer.from('hello'), 'text/plain', { rev: (await db.get('b'))._rev })
    assert.strictEqual((await db.attachment.get('b', 'a.txt')).toString(), 'hello')
    const made = await db.multipart.insert({ title: 'm' }, [{ name: 'm.txt', data: Buffer.from('part'), content_type: 'text/plain' }], 'm')
    assert.ok(made.ok)
    assert.strictEqual((await db.attachment.get('m', 'm.txt')).toString(), 'part')
    assert.strictEqual((await db.changes({ include_docs: true })).results.length, 4)
    assert.ok((await nano.db.list()).includes('nanos'))
    assert.strictEqual((await db.info()).doc_count, 4)
    await nano.db.destroy('nanos')
  }
}

tell(stories)
