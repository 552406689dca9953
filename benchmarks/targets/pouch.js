// PouchDB on LevelDB in a process of its own. Reads a command a line, does and times its calls, and writes a line of how long they
// took: so what is measured is PouchDB, and not the pipe to it. Run by benchmarks/targets/pouch.py.
'use strict'

const fs = require('fs')
const path = require('path')
const readline = require('readline')
const PouchDB = require(path.join(process.argv[2], 'pouchdb'))
const place = process.argv[3]
const BATCH = 500

let db = new PouchDB(place)

function whole (results) {
  for (const one of results) if (one.error) throw new Error(`${one.id}: ${one.reason || one.message}`)
}

const abilities = {
  put: (id, document) => db.put({ _id: id, ...document }),
  get: (id) => db.get(id),
  async update (id) {
    const found = await db.get(id)
    await db.put({ ...found, touched: (found.touched || 0) + 1 })
  },
  bulk: async (documents) => whole(await db.bulkDocs(documents.map(([id, body]) => ({ _id: id, ...body })))),
  async conflict (id, mine, theirs) {
    await db.put({ _id: id, ...mine })
    const digest = '0'.repeat(32)
    const _revisions = { start: 1, ids: [digest] }
    whole(await db.bulkDocs([{ _id: id, _rev: `1-${digest}`, _revisions, ...theirs }], { new_edits: false }))
  },
  async siblings (id) {
    const winner = await db.get(id, { conflicts: true })
    return Promise.all([winner, ...winner._conflicts.map((rev) => db.get(id, { rev }))])
  },
  async resolve (id, body) {
    const winner = await db.get(id, { conflicts: true })
    const losers = winner._conflicts.map((rev) => ({ _id: id, _rev: rev, _deleted: true }))
    whole(await db.bulkDocs([{ _id: id, _rev: winner._rev, ...body }, ...losers]))
  },
  changes: async () => (await db.changes({ since: 0, include_docs: true })).results.length,
  async load (file) {
    let batch = []
    for await (const line of readline.createInterface({ input: fs.createReadStream(file) })) {
      batch.push(JSON.parse(line))
      if (batch.length === BATCH) {
        whole(await db.bulkDocs(batch))
        batch = []
      }
    }
    if (batch.length) whole(await db.bulkDocs(batch))
  },
  async reopen (id) {
    await db.close()
    db = new PouchDB(place)
    return db.get(id)
  }
}

async function measure ({ ability, calls }) {
  const act = abilities[ability]
  const each = []
  const began = process.hrtime.bigint()
  for (const call of calls) {
    const before = process.hrtime.bigint()
    await act(...call)
    each.push(Number(process.hrtime.bigint() - before) / 1e9)
  }
  return { seconds: Number(process.hrtime.bigint() - began) / 1e9, each }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await measure(JSON.parse(line))) + '\n')
  }
  await db.close()
}

main().catch((error) => { console.error(error); process.exit(1) })
