// What every story uses: databases behind TLS with a client certificate, and small words for waiting.
'use strict'

const fs = require('fs')
const https = require('https')
const path = require('path')
const PouchDB = require('pouchdb')

PouchDB.plugin(require('pouchdb-upsert'))
PouchDB.plugin(require('delta-pouch'))

const setup = JSON.parse(process.env.CRDTDB_INTEROP)
const tls = {
  ca: fs.readFileSync(path.join(setup.certs, 'ca.pem')),
  cert: fs.readFileSync(path.join(setup.certs, 'ada.pem')),
  key: fs.readFileSync(path.join(setup.certs, 'ada.key'))
}
const agent = new https.Agent({ ...tls, keepAlive: true })

function fetchBy (url, options) {
  return PouchDB.fetch(url, { ...options, agent })
}

function remote (node, name) {
  return new PouchDB(`${setup.urls[node]}/${name}`, { fetch: fetchBy })
}

function local (name) {
  return new PouchDB(path.join(setup.folder, name))
}

async function until (what, condition, seconds = 20) {
  const end = Date.now() + seconds * 1000
  while (Date.now() < end) {
    try {
      if (await condition()) return
    } catch (error) {
      if (Date.now() + 500 > end) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`it didn't happen in ${seconds} s: ${what}`)
}

async function refused (promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it was not refused')
}

async function leaves (db, id) {
  const found = await db.get(id, { open_revs: 'all' })
  return found.filter((one) => one.ok).map((one) => one.ok._rev + (one.ok._deleted ? ' deleted' : '')).sort()
}

// The parent tells the story what it did by a line on standard input, and is asked for it by a line on standard output.
const lines = require('readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]()
async function ask (what) {
  console.log(JSON.stringify({ ask: what }))
  const answer = await lines.next()
  return JSON.parse(answer.value)
}

function tell (stories) {
  const story = stories[process.argv[2]]
  story().then(
    (result) => { console.log(JSON.stringify({ done: result === undefined ? null : result })); process.exit(0) },
    (error) => { console.error(error.stack || error); process.exit(1) }
  )
}

module.exports = { ask, leaves, local, refused, remote, setup, tell, tls, until }
