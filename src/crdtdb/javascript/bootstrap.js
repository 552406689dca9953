// What a function of a design document finds in its world, and how it is called. One context has one function.
'use strict';

(function (world) {
  const evaluate = world.eval
  // Kept before the function could put something else in their places.
  const { parse, stringify } = JSON
  const { push } = Array.prototype
  const { apply } = Reflect
  const append = (list, value) => apply(push, list, [value])
  let emitted = []
  let logged = []
  let chosen = null

  const orNull = (value) => (value === undefined ? null : value)

  world.emit = function (key, value) { append(emitted, [orNull(key), orNull(value)]) }
  world.sum = function (values) {
    let total = 0
    for (const value of values) total += value
    return total
  }
  world.isArray = Array.isArray
  world.toJSON = JSON.stringify
  world.log = function (message) {
    if (logged.length < 100) logged.push(String(typeof message === 'object' ? JSON.stringify(message) : message).slice(0, 1000))
  }

  // CommonJS modules that stand as texts in the design document: require('views/lib/words').
  function requiring (tree, from) {
    const known = new Map()
    return function load (name) {
      const steps = name.startsWith('.') ? [...from.slice(0, -1), ...name.split('/')] : name.split('/')
      const path = []
      for (const step of steps) {
        if (step === '..') path.pop()
        else if (step !== '.' && step !== '') path.push(step)
      }
      const place = path.join('/')
      if (known.has(place)) return known.get(place).exports
      let text = tree
      for (const step of path) text = text !== null && typeof text === 'object' ? text[step] : undefined
      if (typeof text !== 'string') throw new Error('require: there is no module ' + name)
      const module = { id: place, exports: {} }
      known.set(place, module)
      evaluate('(function (module, exports, require) {' + text + '\n})')(module, module.exports, requiring(tree, path))
      return module.exports
    }
  }

  world.__define = function (text) {
    const { source, modules } = parse(text)
    if (modules !== null) world.require = requiring(modules, [])
    const found = evaluate('(' + source.trim().replace(/;+$/, '') + '\n)')
    if (typeof found !== 'function') throw new TypeError('it is no function')
    chosen = found
  }

  const calls = {
    map (doc) {
      chosen(doc)
      return emitted
    },
    reduce ([keys, values, again]) { return orNull(chosen(keys, values, again)) },
    filter ([doc, request]) { return Boolean(chosen(doc, request)) },
    validate ([doc, before, user, security]) {
      chosen(doc, before, user, security)
      return null
    }
  }

  // What is thrown becomes part of the answer: {forbidden: …} and {unauthorized: …} are refusals, all else is a mistake.
  world.__call = function (what, text) {
    emitted = []
    logged = []
    try {
      return stringify({ result: calls[what](parse(text)), logged })
    } catch (error) {
      if (error instanceof InternalError) throw error // too much memory: not of one document alone
      for (const word of ['forbidden', 'unauthorized']) {
        if (error !== null && typeof error === 'object' && error[word] !== undefined) {
          return stringify({ refused: word, reason: String(error[word]), logged })
        }
      }
      return stringify({ thrown: String(error).slice(0, 1000), logged })
    }
  }
})(globalThis)
