// Pushes, pulls and waits for live changes through one server, and prints what each took. Run by benchmarks/workloads/syncing.py.
'use strict'

const fs = require('fs')
const https = require('https')
const path = require('path')
const setup = JSON.parse(process.env.CRDTDB_BENCH)
const PouchDB = require(path.join(setup.modules, 'pouchdb'))

const agent = setup.certs && new https.Agent({
  ca: fs.readFileSync(path.join(setup.certs, 'ca.pem')),
  cert: fs.readFileSync(path.join(setup.certs, 'ada.pem')),
  key: fs.readFileSync(path.join(setup.certs, 'ada.key')),
  keepAlive: true
})
const remote = () => new PouchDB(`${setup.url}/${setup.name}`, agent
  ? { fetch: (url, options) => PouchDB.fetch(url, { ...options, agent }) }
  : {})

async function timed (action) {
  const began = process.hrtime.bigint()
  await action()
  return Number(process.hrtime.bigint() - began) / 1e9
}

async function main () {
  const from = new PouchDB(path.join(setup.folder, 'from'))
  const to = new PouchDB(path.join(setup.folder, 'to'))
  const documents = JSON.parse(fs.readFileSync(setup.documents))
  await from.bulkDocs(documents)
  const push = await timed(() => from.replicate.to(remote(), { batch_size: 500 }))
  const pull = await timed(() => to.replicate.from(remote(), { batch_size: 500 }))
  const waits = []
  const live = to.replicate.from(remote(), { live: true })
  await new Promise((resolve) => live.once('paused', resolve))
  for (let n = 0; n < 20; n++) {
    const arrived = new Promise((resolve) => live.once('change', resolve))
    waits.push(await timed(async () => { await remote().put({ _id: `live${n}` }); await arrived }))
  }
  live.cancel()
  waits.sort((a, b) => a - b)
  console.log(JSON.stringify({
    push: documents.length / push, pull: documents.length / pull, live: waits[10] * 1000
  }))
  process.exit(0)
}

main().catch((error) => { console.error(error); process.exit(1) })
