// What a node answers to pouchdb-find and to PouchDB's map/reduce, beside what PouchDB answers for the same documents of its own.
'use strict'

const assert = require('assert')
const PouchDB = require('pouchdb')
const { local, refused, remote } = require('./common')

PouchDB.plugin(require('pouchdb-find'))

const CITIES = ['Rome', 'Oslo', 'Bern', 'rome', 'Ålesund']
const people = [...Array(60).keys()].map((n) => ({
  _id: `p${String(n).padStart(3, '0')}`,
  age: n % 13,
  name: `${'xyzw'[n % 4]}${n}`,
  city: CITIES[n % CITIES.length],
  tags: ['a', 'b', 'c'].slice(0, n % 4),
  deep: { er: { n: n / 2 } },
  ...(n % 3 ? { some: n % 2 === 0 } : {}),
  ...(n % 7 ? {} : { odd: [null, true, 5, 'text', [1, 2], { x: 1 }][(n / 7) % 6] }),
  parts: [{ kind: 'k' + (n % 3), size: n }, { kind: 'k9', size: n * 2 }]
}))

// Each is asked of both; those with an order are compared in order.
const selectors = [
  [{ age: 5 }],
  [{ age: { $eq: 5 } }],
  [{ age: { $gt: 8 } }, ['age']],
  [{ age: { $gte: 8 } }, [{ age: 'desc' }]],
  [{ age: { $lt: 3 } }],
  [{ age: { $lte: 3, $gte: 2 } }, ['age']],
  [{ age: { $gt: 2, $lt: 4 } }],
  [{ age: { $ne: 5 }, name: { $gt: 'y' } }],
  [{ age: { $in: [1, 2, 99] } }],
  [{ age: { $nin: [1, 2, 3, 4, 5, 6] } }],
  [{ tags: { $all: ['a', 'b'] } }],
  [{ tags: { $size: 2 } }],
  [{ tags: { $elemMatch: { $eq: 'c' } } }],
  [{ parts: { $elemMatch: { kind: 'k1', size: { $gt: 30 } } } }],
  [{ parts: { $allMatch: { size: { $gt: 40 } } } }],
  [{ some: { $exists: true } }],
  [{ some: { $exists: false } }],
  [{ odd: { $type: 'string' } }],
  [{ odd: { $type: 'array' } }],
  [{ odd: { $type: 'null' } }],
  [{ odd: { $type: 'boolean' } }],
  [{ odd: { $type: 'object' } }],
  [{ odd: { $type: 'number' } }],
  [{ age: { $mod: [5, 2] } }],
  [{ name: { $regex: '^x[0-9]$' } }],
  [{ 'deep.er.n': { $gt: 25 } }],
  [{ deep: { er: { n: 7.5 } } }],
  [{ $and: [{ age: { $gt: 5 } }, { age: { $lt: 9 } }] }],
  [{ $or: [{ age: 1 }, { city: 'Oslo' }] }],
  [{ $nor: [{ age: { $lt: 11 } }, { city: 'Bern' }] }],
  [{ _id: { $gt: 'p010', $lte: 'p015' } }, ['_id']],
  [{ city: { $gt: null } }, ['city', 'age']],
  [{ city: 'Rome', age: { $gt: 3 } }, [{ city: 'desc' }, { age: 'desc' }]]
]

// What CouchDB has and PouchDB hasn't.
const more = [
  [{ deep: { $keyMapMatch: { $eq: 'er' } } }, () => true],
  [{ name: { $beginsWith: 'y1' } }, (doc) => doc.name.startsWith('y1')],
  [{ $not: { some: true } }, (doc) => doc.some === false],
  [{ $not: { age: { $lt: 11 } } }, (doc) => doc.age >= 11],
  [{ age: { $not: { $lt: 11 } } }, (doc) => doc.age >= 11]
]

async function find () {
  const [server, mine] = [remote('n1', 'people'), local('mine')]
  for (const db of [server, mine]) {
    const written = await db.bulkDocs(people.map((one) => ({ ...one })))
    assert.ok(written.every((one) => one.ok), JSON.stringify(written.find((one) => !one.ok)))
  }
  const unindexed = await server.find({ selector: { age: 5 } })
  assert.match(unindexed.warning, /No matching index found/)
  for (const fields of [['age'], ['city', 'age'], ['name'], ['deep.er.n'], ['some']]) {
    for (const db of [server, mine]) {
      const made = await db.createIndex({ index: { fields, name: fields.join('-'), ddoc: 'by' } })
      assert.strictEqual(made.result, 'created')
      assert.strictEqual((await db.createIndex({ index: { fields, name: fields.join('-'), ddoc: 'by' } })).result, 'exists')
    }
  }
  const shown = async (db) => (await db.getIndexes()).indexes.map(({ ddoc, name, type, def }) => ({ ddoc, name, type, def }))
  assert.deepStrictEqual(await shown(server), (await shown(mine)).sort((a, b) => (a.ddoc || '') < (b.ddoc || '') || (a.ddoc === b.ddoc && a.name < b.name) ? -1 : 1))
  for (const [selector, sort] of selectors) {
    const query = { selector, limit: 1000, ...(sort ? { sort } : {}) }
    const [theirs, expected] = [await server.find(query), await mine.find(query)]
    const ids = (found) => found.docs.map((one) => one._id)
    const [got, wanted] = [ids(theirs), ids(expected)]
    assert.ok(got.length > 0, `nothing matches ${JSON.stringify(selector)}: it tests nothing`)
    assert.deepStrictEqual(sort ? got : got.sort(), sort ? wanted : wanted.sort(), JSON.stringify(query))
    const stripped = (found) => found.docs.map(({ _rev, ...rest }) => rest).sort((a, b) => a._id < b._id ? -1 : 1)
    assert.deepStrictEqual(stripped(theirs), stripped(expected), JSON.stringify(query))
  }
  for (const [selector, matches] of more) {
    const found = await server.find({ selector, limit: 1000 })
    assert.deepStrictEqual(found.docs.map((one) => one._id).sort(), people.filter(matches).map((one) => one._id))
  }
  const fields = await server.find({ selector: { age: 5 }, fields: ['_id', 'deep.er'], limit: 1, skip: 1 })
  assert.deepStrictEqual(fields.docs, (await mine.find({ selector: { age: 5 }, fields: ['_id', 'deep.er'], limit: 1, skip: 1 })).docs)
  const explained = await server.explain({ selector: { city: 'Rome', age: { $gt: 3 } } })
  assert.deepStrictEqual([explained.index.ddoc, explained.index.name], ['_design/by', 'city-age'])
  let [seen, bookmark] = [[], undefined]
  for (;;) {
    const page = await server.find({ selector: { age: { $gte: 0 } }, sort: ['age'], limit: 7, bookmark })
    seen = seen.concat(page.docs.map((one) => one._id))
    bookmark = page.bookmark
    if (page.docs.length < 7) break
  }
  assert.strictEqual(new Set(seen).size, people.length)
  for (const [query, status] of [
    [{ selector: { age: { $what: 1 } } }, 400],
    [{ selector: { age: 1 }, sort: [{ age: 'asc' }, { name: 'desc' }] }, 400],
    [{ selector: { age: 1 }, bookmark: 'nonsense' }, 400],
    [{ selector: { name: { $regex: '(' } } }, 400]
  ]) {
    const error = await refused(server.find(query))
    assert.strictEqual(error.status, status, JSON.stringify(query))
    assert.ok(error.reason, JSON.stringify(query))
  }
  for (const index of (await server.getIndexes()).indexes.filter((one) => one.ddoc)) {
    assert.deepStrictEqual(await server.deleteIndex(index), { ok: true })
  }
  assert.strictEqual((await server.getIndexes()).indexes.length, 1)
  return selectors.length
}

const views = {
  'by-age': { map: 'function (doc) { emit(doc.age, doc.city) }', reduce: '_count' },
  'by-path': { map: 'function (doc) { emit([doc.city, doc.age, doc.name], doc.age) }', reduce: '_sum' },
  stats: { map: 'function (doc) { emit(doc.city, doc.age) }', reduce: '_stats' },
  odd: { map: 'function (doc) { if (doc.odd !== undefined) emit(doc.odd) }' },
  tags: { map: 'function (doc) { doc.tags.forEach(function (tag) { emit(tag, { _id: "p001" }) }) }' },
  longest: {
    map: 'function (doc) { emit(doc.city, doc.name) }',
    reduce: 'function (keys, values, rereduce) { return values.reduce(function (a, b) { return a.length >= b.length ? a : b }).length > 2 ? values.reduce(function (a, b) { return a > b ? a : b }) : values[0] }'
  },
  highest: {
    map: 'function (doc) { emit(doc.city, doc.deep.er.n) }',
    reduce: 'function (keys, values) { return Math.max.apply(null, values) }'
  }
}

const queries = [
  ['by-age', { reduce: false }],
  ['by-age', { reduce: false, key: 5 }],
  ['by-age', { reduce: false, keys: [7, 2, 99] }],
  ['by-age', { reduce: false, startkey: 3, endkey: 5 }],
  ['by-age', { reduce: false, startkey: 3, endkey: 5, inclusive_end: false }],
  ['by-age', { reduce: false, startkey: 5, endkey: 3, descending: true }],
  ['by-age', { reduce: false, limit: 7, skip: 20 }],
  ['by-age', { reduce: false, include_docs: true, limit: 3 }],
  ['by-age', {}],
  ['by-age', { key: 5 }],
  ['by-age', { group: true }],
  ['by-age', { group: true, startkey: 3, limit: 2, skip: 1 }],
  ['by-age', { group: true, descending: true, limit: 3 }],
  ['by-age', { group: true, keys: [3, 1] }],
  ['by-path', { group_level: 1 }],
  ['by-path', { group_level: 2, startkey: ['Oslo'], endkey: ['Oslo', {}] }],
  ['by-path', { group_level: 9, limit: 4 }],
  ['by-path', { reduce: false, startkey: ['Rome', 3], endkey: ['Rome', 7, '\ufff0'] }],
  ['stats', { group: true }],
  ['stats', {}],
  ['odd', {}],
  ['odd', { startkey: null, endkey: 'text' }],
  ['odd', { startkey: [], endkey: {} }],
  ['tags', { key: 'c' }],
  ['tags', { key: 'c', include_docs: true, limit: 2 }],
  ['highest', { group: true }],
  ['highest', {}]
]

async function mapReduce () {
  const [server, mine] = [remote('n1', 'rows'), local('rows')]
  for (const db of [server, mine]) {
    await db.bulkDocs(people.map((one) => ({ ...one })))
    await db.put({ _id: '_design/v', views })
  }
  const compare = async () => {
    for (const [view, options] of queries) {
      const plain = ({ rows, total_rows: total }) => ({
        total,
        rows: rows.map((row) => (row.doc ? { ...row, doc: { ...row.doc, _rev: null } } : row))
      })
      const [theirs, expected] = [await server.query(`v/${view}`, options), await mine.query(`v/${view}`, options)]
      assert.deepStrictEqual(plain(theirs), plain(expected), `${view} ${JSON.stringify(options)}`)
    }
  }
  await compare()
  for (const db of [server, mine]) {
    for (const id of ['p003', 'p017', 'p044']) await db.put({ ...(await db.get(id)), age: 5, city: 'Rome' })
    await db.remove(await db.get('p021'))
    await db.put({ ...people[0], _id: 'new' })
  }
  await compare()
  for (const [view, options, status] of [
    ['v/nothing', {}, 404],
    ['nothing/by-age', {}, 404],
    ['v/odd', { reduce: true }, 400],
    ['v/by-age', { reduce: false, startkey: 5, endkey: 3 }, 400],
    ['v/by-age', { group_level: -1 }, 400]
  ]) {
    const error = await refused(server.query(view, options))
    assert.strictEqual(error.status, status, `${view} ${JSON.stringify(options)} ${error}`)
  }
  await server.put({
    _id: '_design/bad',
    views: { loop: { map: 'function (doc) { while (true) {} }' }, eat: { map: 'function (doc) { var a = []; while (true) a.push("x" + a.join()) }' } }
  })
  const [looping, eating, meanwhile] = await Promise.all([
    refused(server.query('bad/loop')), refused(server.query('bad/eat')), server.query('v/by-age', { key: 5 })
  ])
  for (const error of [looping, eating]) {
    assert.deepStrictEqual([error.status, error.name], [500, 'script_error'])
    assert.match(error.reason, /^_design\/bad\/_view\/(loop|eat): it took too (long|much memory), and was stopped$/)
  }
  assert.strictEqual(meanwhile.rows.length, 1)
  assert.deepStrictEqual(await server.viewCleanup(), { ok: true })
  const some = local('some')
  await some.replicate.from(server, { filter: '_view', view: 'v/odd' })
  assert.strictEqual((await some.allDocs()).rows.length, (await server.query('v/odd')).rows.length)
  return queries.length
}

async function guarded () {
  const [server, mine] = [remote('n1', 'guarded'), local('guarded')]
  await server.put({
    _id: '_design/guard',
    validate_doc_update: 'function (doc, before, user) { if (doc.by !== user.name) throw({ forbidden: "sign it, " + user.name }) }',
    filters: { even: 'function (doc, req) { return doc.n % 2 === Number(req.query.rest) }' }
  })
  await mine.bulkDocs([...Array(10).keys()].map((n) => ({ _id: `d${n}`, n, by: n < 8 ? 'ada' : 'bob' })))
  const pushed = await mine.replicate.to(server)
  assert.deepStrictEqual([pushed.docs_written, pushed.doc_write_failures], [8, 2])
  const error = await refused(server.put({ _id: 'x', by: 'bob' }))
  assert.deepStrictEqual([error.status, error.name, error.reason], [403, 'forbidden', 'sign it, ada'])
  const odd = local('odd')
  await odd.replicate.from(server, { filter: 'guard/even', query_params: { rest: 1 } })
  assert.deepStrictEqual((await odd.allDocs()).rows.map((row) => row.id), ['d1', 'd3', 'd5', 'd7'])
}

module.exports = { find, mapReduce, guarded }
