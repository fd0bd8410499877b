import { once } from 'node:events'
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import { connect as connectTcp } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { HookResponse } from '../src/api/metacontroller.js'
import { type HookAccess, replaceTls } from '../src/hook-access.js'
import { createMetrics, HOOKS } from '../src/metrics.js'
import { buildHookServer, type HookServerDeps } from '../src/server.js'
import { NO_SUMMARY } from './builders.js'
import { manualClock } from './manual-clock.js'
import { authority, type Leaf } from './pki.js'

const answer: HookResponse = { status: {}, children: [], resyncAfterSeconds: 60 }
const policyAnswer = {
  body: new TextEncoder().encode('{}'),
  summary: NO_SUMMARY,
}
const JSON_TYPE = { 'content-type': 'application/json' }
const BODY = '{"parent":{"metadata":{"uid":"a"}}}'
/** Every hook, and paths that are none. */
const PATHS = [
  ...HOOKS.map((hook) => `/hooks/${hook}`),
  '/',
  '/hooks',
  '/hooks/',
  '/hooks/storage-policy',
  '/hooks/storage-policy/sync/',
  '/hooks/storage-policy/sync?a=b',
  '/hooks/none/such',
  '/hooks/%2e%2e/metrics',
  '/hooks/%',
  '//hooks/storage-policy/sync',
]

async function server(t: Test, access: HookAccess, changes: Partial<HookServerDeps> = {}) {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics({ version: '0' })
  const clock = manualClock()
  const called: string[] = []
  const note =
    <T>(name: string, result: T) =>
    async () => {
      called.push(name)
      return result
    }
  const app = buildHookServer({
    log,
    clock: clock.clock,
    metrics,
    access,
    policy: { sync: note('policy sync', policyAnswer), finalize: note('policy finalize', policyAnswer) },
    customize: note('customize', { relatedResources: [] }),
    topology: { sync: note('topology sync', answer), finalize: note('topology finalize', answer) },
    ...changes,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return { app, metrics, lines, called, clock, port: (app.server.address() as AddressInfo).port }
}

interface Answer {
  readonly status: number
  readonly text: string
  readonly connection: string | undefined
}

/** One call over a connection of its own, or over that of `options.agent`. */
function call(port: number, path: string, options: RequestOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { ...JSON_TYPE, ...options.headers }
    const sent = { host: '127.0.0.1', port, path, method: 'POST', agent: false, ...options, headers } as const
    const request = httpsRequest(sent, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text, connection: response.headers.connection })
      })
    })
    request.on('error', reject)
    request.end(sent.method === 'POST' ? BODY : undefined)
  })
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
const shows = ({ certificate, key }: Leaf) => ({ cert: certificate, key })
const refused = { status: 401, text: '{"error":"unauthorized"}', connection: 'close' }

async function pki() {
  const ca = await authority()
  const identity = await ca.issue()
  const clients = await authority('clients')
  const tls = { certificate: identity.certificate, key: identity.key }
  return { ca, clients, tls, trusted: { ca: ca.certificate } }
}

t.test('without a credential asked for, everybody is answered', async (t) => {
  const { app } = await server(t, {})
  for (const hook of HOOKS) {
    const response = await app.inject({ method: 'POST', url: `/hooks/${hook}`, headers: JSON_TYPE, body: BODY })
    t.equal(response.statusCode, 200, hook)
  }
  t.equal((await app.inject({ method: 'POST', url: '/hooks/%' })).statusCode, 404, 'a path that cannot be read')
})
t.test('a bearer token', async (t) => {
  const { tls, trusted } = await pki()
  let tokens = ['first', 'second']
  const { port, called, metrics } = await server(t, { tls, tokens: () => tokens })
  const wrong: Record<string, Record<string, string>> = {
    missing: {},
    empty: { authorization: '' },
    'of another scheme': { authorization: 'Basic first' },
    'without a scheme': { authorization: 'first' },
    'without a token': { authorization: 'Bearer ' },
    wrong: { authorization: 'Bearer third' },
    'too short': { authorization: 'Bearer firs' },
    'too long': { authorization: 'Bearer firstt' },
    'in other letters': { authorization: 'Bearer FIRST' },
    'two of them': { authorization: 'Bearer first second' },
    'in another header': { 'x-authorization': 'Bearer first' },
  }
  for (const [name, headers] of Object.entries(wrong)) {
    for (const path of PATHS) t.strictSame(await call(port, path, { ...trusted, headers }), refused, `${name}: ${path}`)
  }
  for (const method of ['GET', 'HEAD', 'PUT', 'OPTIONS', 'TRACE', 'PROPFIND']) {
    t.equal((await call(port, '/hooks/storage-policy/sync', { ...trusted, method })).status, 401, method)
  }
  t.strictSame(called, [], 'nothing was done')
  for (const token of tokens) {
    for (const hook of HOOKS) {
      t.equal((await call(port, `/hooks/${hook}`, { ...trusted, ...bearer(token) })).status, 200, `${token}: ${hook}`)
    }
  }
  const lower = { headers: { authorization: 'bearer  first ' } }
  t.equal((await call(port, '/hooks/storage-policy/sync', { ...trusted, ...lower })).status, 200)
  t.equal((await call(port, '/hooks/none/such', { ...trusted, ...bearer('first') })).status, 404)
  t.equal((await call(port, '/hooks/%', { ...trusted, ...bearer('first') })).status, 404)
  const text = await metrics.registry.metrics()
  t.match(text, 'storage_operator_reconcile_total{hook="replica-topology/sync",outcome="unauthorized"} 11')

  tokens = ['second', 'third']
  t.equal(
    (await call(port, '/hooks/storage-policy/sync', { ...trusted, ...bearer('first') })).status,
    401,
    'rotated out',
  )
  t.equal((await call(port, '/hooks/storage-policy/sync', { ...trusted, ...bearer('second') })).status, 200)
  t.equal((await call(port, '/hooks/storage-policy/sync', { ...trusted, ...bearer('third') })).status, 200)
})

t.test('a client certificate', async (t) => {
  const { tls, trusted, clients, ca } = await pki()
  const { port, called } = await server(t, { tls: { ...tls, clientAuthorities: clients.certificate } })
  const foreign = await authority('clients')
  const wrong: Record<string, ConnectionOptions> = {
    none: {},
    expired: shows(await clients.issue({ usage: 'client', hours: [-2, -1] })),
    'not valid yet': shows(await clients.issue({ usage: 'client', hours: [1, 2] })),
    'of an authority of the same name': shows(await foreign.issue({ usage: 'client' })),
    'of the authority that signed the server': shows(await ca.issue({ usage: 'client' })),
    'for servers': shows(await clients.issue({ usage: 'server' })),
  }
  for (const [name, options] of Object.entries(wrong)) {
    for (const path of PATHS)
      t.strictSame(await call(port, path, { ...trusted, ...options }), refused, `${name}: ${path}`)
  }
  t.strictSame(called, [], 'nothing was done')
  const right = shows(await clients.issue({ usage: 'client' }))
  for (const hook of HOOKS) {
    t.equal((await call(port, `/hooks/${hook}`, { ...trusted, ...right })).status, 200, hook)
  }
})

t.test('a session is not resumed: it would stand in for the certificate', async (t) => {
  const { tls, trusted, clients } = await pki()
  const { port } = await server(t, { tls: { ...tls, clientAuthorities: clients.certificate } })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const visit = async (session?: Buffer) => {
      const socket = connectTls({ port, host: '127.0.0.1', maxVersion, ...trusted, ...(session && { session }) })
      let given: Buffer | undefined
      let text = ''
      socket.on('session', (ticket) => {
        given = ticket
      })
      socket.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      await once(socket, 'secureConnect')
      const reused = socket.isSessionReused()
      socket.write('GET /hooks/storage-policy/sync HTTP/1.1\r\nHost: a\r\n\r\n')
      await once(socket, 'close')
      return { status: text.split(' ')[1], session: given ?? socket.getSession(), reused }
    }
    const first = await visit()
    t.match(first, { status: '401', reused: false }, maxVersion)
    t.match(await visit(first.session), { status: '401', reused: false }, `${maxVersion}, once more`)
  }
})

t.test('both a token and a certificate', async (t) => {
  const { tls, trusted, clients } = await pki()
  const { port } = await server(t, { tls: { ...tls, clientAuthorities: clients.certificate }, tokens: () => ['token'] })
  const certificate = shows(await clients.issue({ usage: 'client' }))
  const path = '/hooks/storage-policy/sync'
  t.equal((await call(port, path, { ...trusted, ...certificate })).status, 401)
  t.equal((await call(port, path, { ...trusted, ...bearer('token') })).status, 401)
  t.equal((await call(port, path, { ...trusted, ...certificate, ...bearer('token') })).status, 200)
})

t.test('TLS 1.2 and later, and no HTTP beside it', async (t) => {
  const { tls, trusted } = await pki()
  const { port } = await server(t, { tls })
  const versions = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  await t.rejects(call(port, '/hooks/storage-policy/sync', { ...trusted, ...versions }))
  await t.rejects(fetch(`http://127.0.0.1:${port}/hooks/storage-policy/sync`, { method: 'POST' }))
  await t.rejects(call(port, '/hooks/storage-policy/sync', {}), 'an authority the caller does not know')
})

t.test('a body is not read before the caller is known', async (t) => {
  const { port } = await server(t, { tokens: () => ['token'] })
  const socket = connectTcp(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
  })
  // A body of 200 MB that never comes.
  socket.write('POST /hooks/storage-policy/sync HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n')
  socket.write('Content-Length: 200000000\r\n\r\n{')
  await once(socket, 'close')
  t.match(text, /^HTTP\/1\.1 401 [\s\S]*\{"error":"unauthorized"\}$/)
  t.match(text, /^www-authenticate: bearer\r$/im)
})

t.test('refused callers are logged once a minute, without what they sent', async (t) => {
  const { app, lines, clock } = await server(t, { tokens: () => ['right-token'] })
  const knock = () =>
    app.inject({ method: 'POST', url: '/hooks/none', headers: { authorization: 'Bearer wrong-token' } })
  for (let i = 0; i < 5; i++) await knock()
  await clock.pass(60_000)
  for (let i = 0; i < 5; i++) await knock()
  const refusals = lines.filter(({ msg }) => msg === 'calls without the right credential were refused')
  t.strictSame(
    refusals.map(({ calls, level }) => [calls, level]),
    [
      [1, 40],
      [5, 40],
    ],
  )
  t.notMatch(JSON.stringify(lines), /(right|wrong)-token/)
})

t.test('certificates replaced while connections are open', async (t) => {
  const { tls, trusted, clients, ca } = await pki()
  const first = await server(t, { tls: { ...tls, clientAuthorities: clients.certificate } })
  const { app, port } = first
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const path = '/hooks/storage-policy/sync'
  const old = shows(await clients.issue({ usage: 'client' }))
  const open = { ...trusted, ...old, agent }
  t.equal((await call(port, path, open)).status, 200)
  const socket = socketOf(agent)

  const others = await authority('other clients')
  const renewed = await ca.issue({ name: 'renewed' })
  replaceTls(app.server, { ...tlsOf(renewed), clientAuthorities: others.certificate })
  t.equal(await servedName(port, trusted.ca), 'renewed', 'a new connection sees the new certificate')
  t.equal((await call(port, path, open)).status, 200, 'an open one goes on')
  t.equal(socketOf(agent), socket, 'the same')
  t.equal((await call(port, path, { ...trusted, ...old })).status, 401, 'the old authority has no say any more')
  const fresh = shows(await others.issue({ usage: 'client' }))
  t.equal((await call(port, path, { ...trusted, ...fresh })).status, 200, 'the new one has')
})

const tlsOf = ({ certificate, key }: Leaf) => ({ certificate, key })
const socketOf = (agent: Agent) => Object.values(agent.freeSockets)[0]?.[0]

async function servedName(port: number, ca: string): Promise<string | undefined> {
  const socket = connectTls({ port, host: '127.0.0.1', ca })
  await once(socket, 'secureConnect')
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return String(subject.CN)
}

t.test('too many calls at once', async (t) => {
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const wait =
    <T>(result: T) =>
    async () => {
      await gate
      return result
    }
  const { app, metrics } = await server(
    t,
    {},
    {
      maxCalls: 6,
      policy: { sync: wait(policyAnswer), finalize: wait(policyAnswer) },
      topology: { sync: wait(answer), finalize: wait(answer) },
    },
  )
  const post = (hook: string, uid = 'a') =>
    app.inject({
      method: 'POST',
      url: `/hooks/${hook}`,
      headers: JSON_TYPE,
      body: JSON.stringify({ parent: { metadata: { uid } } }),
    })
  const running = ['sync', 'finalize', 'sync', 'sync'].map((hook) => post(`storage-policy/${hook}`))
  const busy = async (hook: string, message: string) => {
    const response = await post(hook, 'z')
    t.equal(response.statusCode, 429, message)
    t.equal(response.headers['retry-after'], '1')
    t.strictSame(response.json(), { error: 'too many calls at once' })
  }
  await settled(app)
  await busy('storage-policy/sync', 'a fifth policy would only hold its body in memory')
  await busy('storage-policy/finalize', 'whichever its hook is')
  t.equal((await post('storage-policy/customize')).statusCode, 200, 'the others are not concerned')
  running.push(post('replica-topology/sync', 'b'), post('replica-topology/finalize', 'c'))
  await settled(app)
  for (const hook of HOOKS) await busy(hook, `${hook}, beyond the limit of all`)
  release()
  for (const one of running) t.equal((await one).statusCode, 200)
  for (const hook of HOOKS) t.equal((await post(hook)).statusCode, 200, `${hook}, free again`)
  const text = await metrics.registry.metrics()
  t.match(text, 'storage_operator_reconcile_total{hook="storage-policy/finalize",outcome="busy"} 2')
})

/** What was sent before has been taken up. */
const settled = (app: FastifyInstance) => app.inject({ method: 'GET', url: '/' })
