// People who come by a password, without any certificate.
'use strict'

const assert = require('assert')
const https = require('https')
const PouchDB = require('pouchdb')
const { Agent, request } = require('undici')
const { local, refused, setup, tls, until } = require('./common')

const agent = new https.Agent({ ca: tls.ca, keepAlive: true })
const dispatcher = new Agent({ connect: { ca: tls.ca } })

function as (node, name, password, database = 'guarded-notes') {
  const fetch = (url, options) => PouchDB.fetch(url, { ...options, agent })
  return new PouchDB(`${setup.urls[node]}/${database}`, { fetch, skip_setup: true, ...(name ? { auth: { username: name, password } } : {}) })
}

// PouchDB's own fetch keeps a jar of cookies: here each request shows what it is given and nothing else.
async function session (node, method, body, cookie) {
  const answer = await request(`${setup.urls[node]}/_session`, {
    method,
    dispatcher,
    headers: { 'content-type': 'application/json', ...(cookie ? { cookie } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {})
  })
  return { status: answer.statusCode, cookie: String(answer.headers['set-cookie'] || '').split(';')[0], ...(await answer.body.json()) }
}

async function people () {
  const mia = as('n1', 'mia', 'a long password')
  const written = await mia.put({ _id: 'a', by: 'mia' })
  const mine = local('mine-of-mia')
  await mine.put({ _id: 'b', by: 'mia' })
  const synced = await mine.sync(mia)
  assert.deepStrictEqual([synced.push.docs_written, synced.pull.docs_written], [1, 1])
  const guest = as('n2', 'guest', 'a guest password')
  await until('the users and the documents come to n2', async () => (await guest.get('a'))._rev === written.rev)
  assert.strictEqual((await refused(guest.put({ _id: 'c' }))).status, 403)
  const reading = local('of-guest')
  assert.strictEqual((await reading.replicate.from(guest)).docs_written, 2)
  assert.strictEqual((await refused(as('n1', 'mia', 'wrong').get('a'))).status, 401)
  assert.strictEqual((await refused(as('n1').get('a'))).status, 401)
  assert.strictEqual((await refused(as('n1', 'mia', 'a long password', 'open-notes').get('a'))).status, 403)
  assert.strictEqual((await refused(mia.put({ _id: '_design/x', views: {} }))).status, 403)
  const made = await session('n1', 'POST', { name: 'mia', password: 'a long password' })
  assert.deepStrictEqual([made.status, made.name, made.roles], [200, 'mia', ['editors']])
  const elsewhere = await session('n2', 'GET', null, made.cookie)
  assert.deepStrictEqual([elsewhere.userCtx.name, elsewhere.info.authenticated], ['mia', 'cookie'])
  const forged = await session('n2', 'GET', null, made.cookie.slice(0, -1) + (made.cookie.endsWith('0') ? '1' : '0'))
  assert.strictEqual(forged.userCtx.name, null)
}

module.exports = { people }
