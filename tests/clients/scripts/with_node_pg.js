// node-pg: queries in text, with parameters, named and by cursor, one client and a pool. Prints what the driver
// returned, one JSON object a line, like the Python scripts beside it: `node with_node_pg.js reads | writes`.
'use strict'

const util = require('node:util')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')

const ITEMS = 'SELECT item_id, name, price, tags, state, size, keeps FROM stock.item ORDER BY item_id LIMIT 8'
const EVERY_TYPE = 'SELECT * FROM stock.every_type WHERE id < 2 ORDER BY id'

async function withClient(check) {
  const client = new Client()
  await client.connect()
  try {
    return await check(client)
  } finally {
    await client.end()
  }
}

const shown = (result) => {
  const { command, rowCount, rows, fields } = result
  return { command, rowCount, rows, fields: fields.map(({ name, dataTypeID, dataTypeModifier, format }) => [name, dataTypeID, dataTypeModifier, format]) }
}

// What a caller can learn from a failed statement, without the server's source position.
const errorOf = (promise) =>
  promise.then(
    () => 'no error',
    ({ severity, code, message, detail, hint, position, table }) => ({ severity, code, message, detail, hint, position, table }),
  )

const reads = {
  'plain': async (client) => shown(await client.query(ITEMS)),
  'every type': async (client) => shown(await client.query(EVERY_TYPE)),
  'every type, binary': async (client) => shown(await client.query({ text: 'SELECT c_bool, c_int4, c_float8, c_text, c_timestamptz FROM stock.every_type WHERE id < 2 ORDER BY id', values: [], binary: true })),
  'parameters': async (client) => shown(await client.query('SELECT $1::int + 1 AS n, $2::text, $3::int[], $4::jsonb', [41, "O'Neil", [1, null], { a: 'ü' }])),
  'named statement used again': async (client) => {
    const named = { name: 'by id', text: 'SELECT name FROM stock.item WHERE item_id = $1' }
    const results = []
    for (let id = 1; id <= 5; id++) results.push(shown(await client.query({ ...named, values: [id] })))
    return results
  },
  'rows as arrays': async (client) => shown(await client.query({ text: ITEMS, rowMode: 'array' })),
  'several statements in one string': async (client) => (await client.query("SELECT 1; SELECT 'two' AS b; SHOW timezone")).map(shown),
  'queued queries': (client) => Promise.all([1, 2, 3, 4].map(async (n) => shown(await client.query('SELECT $1::int AS n', [n])))),
  'transaction': async (client) => {
    const commands = ['BEGIN READ ONLY', 'SELECT 1', 'SAVEPOINT a', 'RELEASE a', 'COMMIT', 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'SHOW transaction_isolation', 'ROLLBACK']
    const results = []
    for (const command of commands) results.push(shown(await client.query(command)))
    return results
  },
  'failed transaction': async (client) => {
    const results = []
    for (const command of ['BEGIN', 'SELECT 1/0', 'SELECT 1', 'ROLLBACK', 'SELECT 2']) results.push(await errorOf(client.query(command)))
    return results
  },
  'errors': async (client) => {
    const texts = ['SELEC 1', "SELECT 'ü', no_such", 'SELECT * FROM no_such', 'SELECT 1/0', 'SELECT 1; SELECT 1/0']
    const results = []
    for (const text of texts) results.push(await errorOf(client.query(text)))
    return [...results, await errorOf(client.query('SELECT 1/$1::int', [0])), shown(await client.query('SELECT 1'))]
  },
  'cursor': async (client) => {
    const cursor = client.query(new Cursor('SELECT item_id, name FROM stock.item WHERE item_id > $1 ORDER BY 1', [3]))
    const parts = [await cursor.read(4), await cursor.read(5)]
    await cursor.close()
    return [...parts, shown(await client.query('SELECT 1'))]
  },
  'cursor to its end': async (client) => {
    const cursor = client.query(new Cursor('SELECT name FROM stock.supplier ORDER BY 1'))
    return [await cursor.read(100), await cursor.read(100)]
  },
  'notices': async (client) => {
    const seen = []
    client.on('notice', ({ severity, code, message }) => seen.push([severity, code, message]))
    for (const command of ['COMMIT', 'BEGIN', 'BEGIN', 'COMMIT']) await client.query(command)
    return seen
  },
  'statement timeout': async (client) => [shown(await client.query("SET statement_timeout = '5s'")), shown(await client.query('SHOW statement_timeout'))],
  'pool': async () => {
    const pool = new Pool({ max: 3, statement_timeout: 5000, application_name: 'pool' })
    const results = await Promise.all([...Array(12).keys()].map(async (n) => shown(await pool.query('SELECT $1::int AS n, current_setting($2)', [n, 'statement_timeout']))))
    await pool.end()
    return results
  },
}

// Sends the statements, of which the last is a write; how it failed, and what the connection does afterwards.
const refused = (...texts) =>
  withClient(async (client) => {
    let failure = 'no error'
    for (const text of texts) failure = await errorOf(client.query(text))
    if (failure === 'no error') return { sqlstate: null, detail: null, afterwards: 'not refused' }
    const aborted = await errorOf(client.query('SELECT 1'))
    await client.query('ROLLBACK')
    const { rows } = await client.query('SELECT 42 AS answer')
    const afterwards = [aborted === 'no error' ? 'idle' : 'failed transaction', aborted.code ?? aborted, rows[0].answer]
    return { sqlstate: failure.code, detail: failure.detail ?? null, afterwards }
  })

const writes = {
  'INSERT': () => refused("INSERT INTO stock.supplier (name) VALUES ('intruder')"),
  'CREATE TABLE': () => refused('CREATE TABLE stock.intruder (n int)'),
  'BEGIN READ WRITE, UPDATE': () => refused('SELECT 1', 'BEGIN READ WRITE', 'UPDATE stock.item SET price = 0'),
}

async function main() {
  if (process.argv[2] === 'writes') {
    for (const [write, attempt] of Object.entries(writes)) {
      const outcome = await attempt().catch((error) => ({ sqlstate: null, detail: null, afterwards: `raised ${error}` }))
      console.log(JSON.stringify({ write, ...outcome }))
    }
    return
  }
  for (const [name, check] of Object.entries(reads)) {
    const result = await withClient(check).catch((error) => `raised ${error}`)
    console.log(JSON.stringify({ check: name, result: util.inspect(result, { depth: null, maxArrayLength: null, maxStringLength: null }) }))
  }
}

main()
