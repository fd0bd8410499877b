import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTls } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Agent, request } from 'undici'
import { SimulatedClock } from '../src/embedded/clock.js'
import { ObjectStore } from '../src/embedded/metacontroller/index.js'
import { apiServer } from './api-server.js'
import { policyRequest, topology } from './builders.js'
import { type Authority, authority, type Leaf } from './pki.js'
import { SecretVolume } from './secret-volume.js'

const main = fileURLToPath(new URL('../src/main.js', import.meta.url))
const json = { 'content-type': 'application/json' }

/** Nothing of the machine's own configuration: no kubeconfig, no variables named as our options. */
const clean = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent' }

function start(t: Test, argv: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const child = spawn(process.execPath, [main, ...argv], {
    env: { ...clean, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => {
    child.kill('SIGKILL')
  })
  return child
}

async function run(t: Test, argv: readonly string[], env?: NodeJS.ProcessEnv) {
  const child = start(t, argv, env)
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

const anyPort = ['--metrics-addr=127.0.0.1:0', '--health-addr=127.0.0.1:0', '--hook-addr=127.0.0.1:0']

/** Starts the operator and waits until it says that it is ready. */
async function operator(t: Test, argv: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
  const child = start(t, [...anyPort, '--log-json', ...argv], env)
  const exited = once(child, 'exit')
  const lines: Record<string, unknown>[] = []
  if (child.stdout === null) throw new Error('no stdout')
  const output = createInterface({ input: child.stdout })
  const ready = await new Promise<Record<string, unknown>>((resolve, reject) => {
    output.on('line', (text) => {
      const line = JSON.parse(text)
      lines.push(line)
      if (line.msg === 'ready') resolve(line)
    })
    child.once('exit', (code) => reject(new Error(`exited with ${code}`)))
  })
  return {
    child,
    lines,
    ready,
    exited: async () => (await exited)[0] as number | null,
    url: (server: 'hooks' | 'metrics' | 'health', path: string) => `http://${ready[server]}${path}`,
  }
}

/** A server that takes requests and never answers. */
async function silentServer(t: Test): Promise<{ server: Server; url: string }> {
  const server = createServer(() => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

t.test('help and version', async (t) => {
  const help = await run(t, ['--help'])
  t.equal(help.code, 0)
  t.match(help.stdout, /^Usage: smart-storage-operator \[options\]/)
  t.equal(help.stderr, '')
  const version = await run(t, ['--version'])
  t.equal(version.code, 0)
  t.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
  t.equal(version.stderr, '')
})

t.test('a configuration that cannot be used: exit code 2 and one line', async (t) => {
  const cases: { argv?: string[]; env?: NodeJS.ProcessEnv; line: string }[] = [
    {
      argv: ['--dry-run=perhaps'],
      line: 'error: option --dry-run: expected true or false, got "perhaps"',
    },
    {
      env: { MAX_CONCURRENT_MIGRATIONS: 'two' },
      line:
        'error: environment variable MAX_CONCURRENT_MIGRATIONS (option --max-concurrent-migrations): ' +
        'expected a whole number from 1 to 1000, got "two"',
    },
    { argv: ['--nonsense'], line: "error: unknown option '--nonsense'" },
    { argv: ['serve'], line: 'error: unexpected argument "serve"; see --help' },
    {
      argv: ['--hook-tls-cert-file=c'],
      line: 'error: option --hook-tls-cert-file: needs --hook-tls-key-file beside it',
    },
    {
      argv: ['--hook-tls-cert-file=/none/c', '--hook-tls-key-file=/none/k'],
      line: 'error: option --hook-tls-cert-file: cannot read /none/c: no such file',
    },
    {
      env: { HOOK_TOKEN_FILE: main },
      line: `error: option --hook-token-file: ${main} holds a line that is not a bearer token`,
    },
    {
      argv: ['--mayastor-url=https://a', `--mayastor-ca-file=${main}`],
      line: `error: option --mayastor-ca-file: ${main} holds no certificate in PEM form`,
    },
  ]
  for (const { argv = [], env, line } of cases) {
    const { code, stdout, stderr } = await run(t, argv, env)
    t.equal(code, 2, line)
    t.equal(stderr, `${line}\n`)
    t.equal(stdout, '')
  }
})

t.test('a port in use: exit code 1 and one line', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const option of ['metrics-addr', 'health-addr', 'hook-addr']) {
    const { code, stderr } = await run(t, [...anyPort, `--${option}=${address}`])
    t.equal(code, 1, option)
    t.equal(stderr, `error: option --${option}: cannot listen on ${address}: the address is already in use\n`)
  }
})

t.test('serves, and stops when asked', async (t) => {
  const startedMs = performance.now()
  const { child, url, exited, ready, lines } = await operator(t)
  const readyz = await fetch(url('health', '/readyz'))
  t.comment(`${Math.round(performance.now() - startedMs)} ms from spawn to a 200 on /readyz`)
  t.equal(readyz.status, 200)
  t.match(await readyz.json(), { status: 'ready', dependencies: {} })
  t.match(ready, { level: 'info', version: /^\d/, time: /^\d{4}-/ })
  t.equal((await fetch(url('health', '/healthz'))).status, 200)
  const customize = await fetch(url('hooks', '/hooks/storage-policy/customize'), {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ parent: { metadata: { name: 'gold', uid: 'u' }, spec: {} } }),
  })
  t.equal(customize.status, 200)
  t.match(await customize.json(), { relatedResources: Array })
  const metrics = await (await fetch(url('metrics', '/metrics'))).text()
  t.match(metrics, 'storage_operator_reconcile_total{hook="storage-policy/customize",outcome="success"} 1')
  t.match(metrics, 'storage_operator_active_migrations 0')
  t.match(metrics, 'process_cpu_seconds_total')
  child.kill('SIGTERM')
  t.equal(await exited(), 0)
  t.equal(lines.at(-1)?.['msg'], 'stopped')
})

t.test('hooks behind TLS, a client certificate and a token, all replaced while running', async (t) => {
  const servers = await authority('servers')
  const clients = await authority('clients')
  const others = await authority('other clients')
  const files = (identity: Leaf, clientCa: Authority, tokens: string) => ({
    'tls.crt': `${identity.certificate}\n${servers.certificate}`,
    'tls.key': identity.key,
    'ca.crt': clientCa.certificate,
    tokens,
  })
  const first = files(await servers.issue(), clients, 'old-secret\n')
  const volume = new SecretVolume(`${t.testdir({})}/secret`, first)
  const { url, lines, child, exited } = await operator(t, [
    `--hook-tls-cert-file=${volume.path('tls.crt')}`,
    `--hook-tls-key-file=${volume.path('tls.key')}`,
    `--hook-client-ca-file=${volume.path('ca.crt')}`,
    `--hook-token-file=${volume.path('tokens')}`,
    '--log-level=trace',
  ])
  const base = url('hooks', '').replace('http:', 'https:')
  const agents: Agent[] = []
  t.teardown(() => Promise.all(agents.map((agent) => agent.close())))
  const caller = ({ certificate: cert, key }: Leaf) => {
    const agent = new Agent({ connect: { ca: servers.certificate, cert, key }, connections: 1 })
    agents.push(agent)
    return async (token: string) => {
      const { statusCode, body } = await request(`${base}/hooks/storage-policy/customize`, {
        method: 'POST',
        headers: { ...json, authorization: `Bearer ${token}` },
        body: '{"parent":{"metadata":{"name":"gold"}}}',
        dispatcher: agent,
      })
      await body.dump()
      return statusCode
    }
  }
  const connected = caller(await clients.issue({ usage: 'client' }))
  const stranger = caller(await others.issue({ usage: 'client' }))
  t.equal(await connected('old-secret'), 200)
  t.equal(await connected('wrong-secret'), 401)
  t.equal(await stranger('old-secret'), 401)
  t.equal(await connected('old-secret'), 200)
  t.equal((await fetch(url('metrics', '/metrics'))).status, 200, 'metrics need none of it')
  t.equal((await fetch(url('health', '/readyz'))).status, 200, 'nor does health')

  const replaced = (credential: string, msg: string) => async () => {
    while (!lines.some((line) => line['msg'] === msg && line['credential'] === credential)) await pause()
  }
  volume.replace(files(await servers.issue(), others, 'old-secret\nnew-secret\n'))
  for (const credential of ['hook-tls-cert', 'hook-client-ca', 'hook-token']) {
    await replaced(credential, 'credential replaced')()
  }
  t.equal(await connected('old-secret'), 200, 'an open connection goes on')
  t.equal(await connected('new-secret'), 200, 'the new token is accepted beside the old one')
  t.equal(await caller(await clients.issue({ usage: 'client' }))('new-secret'), 401, 'the old authority is out')
  t.equal(await caller(await others.issue({ usage: 'client' }))('new-secret'), 200, 'the new one is in')

  volume.replace({ ...first, 'tls.key': '-----BEGIN half a key-secret', 'ca.crt': '', tokens: '' })
  const kept = 'credential not replaced; the one before stays in use'
  for (const credential of ['hook-tls-cert', 'hook-client-ca', 'hook-token']) await replaced(credential, kept)()
  t.equal(await caller(await others.issue({ usage: 'client' }))('new-secret'), 200, 'what was good stays')
  const metrics = await (await fetch(url('metrics', '/metrics'))).text()
  for (const credential of ['hook-tls-cert', 'hook-client-ca', 'hook-token']) {
    t.match(metrics, `storage_operator_credential_stale{credential="${credential}"} 1`)
  }
  t.match(metrics, /storage_operator_certificate_expiry_timestamp_seconds\{credential="hook-tls-cert"\} 1\d{9}\b/)
  child.kill('SIGTERM')
  t.equal(await exited(), 0)
  t.notMatch(JSON.stringify(lines), /-secret|PRIVATE/, 'no secret in the log, not even at trace')
})

/** A server that answers every request with `body`, over TLS where it is given a certificate. */
async function standIn(t: Test, body: string, tls?: Leaf, status = 200) {
  const seen: { path: string; headers: IncomingHttpHeaders }[] = []
  const handler = (request: IncomingMessage, response: ServerResponse) => {
    seen.push({ path: request.url ?? '', headers: request.headers })
    request.resume()
    response.writeHead(status, json).end(body)
  }
  const server = tls === undefined ? createServer(handler) : createTls({ cert: tls.certificate, key: tls.key }, handler)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { seen, url: `http${tls === undefined ? '' : 's'}://127.0.0.1:${port}` }
}

t.test('a cluster with TLS, tokens, prefixes and namespaces of its own', async (t) => {
  const ca = await authority()
  const diskPools = { apiVersion: 'openebs.io/v1beta2', kind: 'DiskPool', resource: 'diskpools', namespaced: true }
  const store = new ObjectStore({ clock: new SimulatedClock(0), resources: [diskPools] })
  const api = await apiServer(t, { store, token: 'kube-secret' })
  const prometheus = await standIn(
    t,
    '{"status":"success","data":{"resultType":"vector","result":[]}}',
    await ca.issue(),
  )
  const mayastor = await standIn(t, '{"kind":"Unauthorized","details":"no","message":"no"}', await ca.issue(), 401)
  const dir = t.testdir({
    kubeconfig: api.kubeconfig(),
    ca: ca.certificate,
    'prometheus-token': 'prometheus-secret\n',
    'mayastor-token': 'mayastor-secret',
    'hook-token': 'hook-secret',
  })
  const { url, lines, child, exited } = await operator(
    t,
    [
      '--namespace=storage',
      `--prometheus-url=${prometheus.url}/prometheus`,
      `--prometheus-ca-file=${dir}/ca`,
      `--prometheus-token-file=${dir}/prometheus-token`,
      '--prometheus-header=X-Scope-OrgID: tenant-secret',
      `--mayastor-url=${mayastor.url}/mayastor`,
      `--mayastor-ca-file=${dir}/ca`,
      `--mayastor-token-file=${dir}/mayastor-token`,
      `--hook-token-file=${dir}/hook-token`,
      '--log-level=trace',
    ],
    { KUBECONFIG: `${dir}/kubeconfig` },
  )
  const call = async (hook: string, body: object) => {
    const headers = { ...json, authorization: 'Bearer hook-secret' }
    const response = await fetch(url('hooks', `/hooks/${hook}`), {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    return { status: response.status, answer: (await response.json()) as Record<string, unknown> }
  }
  while (!lines.some(({ msg }) => msg === 'looked for the DiskPool resource')) await pause()
  const customized = await call('storage-policy/customize', { parent: { metadata: { name: 'gold', uid: 'u' } } })
  t.match(customized.answer['relatedResources'], [{}, {}, {}, { apiVersion: 'openebs.io/v1beta2' }])

  const decided = await call('storage-policy/sync', policyRequest({ volumes: [{ id: 'v' }] }))
  t.equal(decided.status, 200)
  t.equal(prometheus.seen.length, 8)
  t.match(prometheus.seen[0], {
    path: /^\/prometheus\/api\/v1\/query/,
    headers: { authorization: 'Bearer prometheus-secret', 'x-scope-orgid': 'tenant-secret' },
  })

  const stepped = await call('replica-topology/sync', { parent: topology({ id: 'v' }) })
  t.match(stepped.answer['status'], { conditions: [{ reason: 'MayastorUnavailable' }] })
  t.match(mayastor.seen[0], { path: /^\/mayastor\/v0\//, headers: { authorization: 'Bearer mayastor-secret' } })
  t.strictSame(
    [...new Set(api.requests.filter(({ resource }) => resource === 'leases').map((r) => r.namespace))],
    ['storage'],
  )

  const { status, dependencies } = (await (await fetch(url('health', '/readyz'))).json()) as Record<string, object>
  t.match(
    { status, dependencies },
    {
      status: 'ready',
      dependencies: {
        prometheus: { reachable: true },
        mayastor: { reachable: false, why: 'HTTP 401', since: /Z$/ },
        kubernetes: { reachable: true },
      },
    },
  )
  child.kill('SIGTERM')
  t.equal(await exited(), 0)
  t.ok(lines.length > 10)
  t.notMatch(JSON.stringify(lines), /-secret/, 'no secret in the log, not even at trace')
})

t.test('a kubeconfig that cannot be used is not repeated in the log', async (t) => {
  const dir = t.testdir({
    kubeconfig: 'users:\n- user: { token: first-secret }\n  name: "second-secret\n  { third-secret',
  })
  const { lines, child, exited } = await operator(t, ['--log-level=trace'], { KUBECONFIG: `${dir}/kubeconfig` })
  while (!lines.some(({ msg }) => msg === 'the kubeconfig cannot be used')) await pause()
  child.kill('SIGTERM')
  t.equal(await exited(), 0)
  t.notMatch(JSON.stringify(lines), /-secret/)
})

const pause = () => new Promise((resolve) => setTimeout(resolve, 20))

t.test('a policy is decided in the worker, and bad input keeps its status', async (t) => {
  const { child, url, exited } = await operator(t, ['--diskpool-api-version=openebs.io/v1beta2'])
  const options = { method: 'POST', headers: json }
  const sync = await fetch(url('hooks', '/hooks/storage-policy/sync'), { ...options, body: '{"parent":7}' })
  t.equal(sync.status, 400)
  t.strictSame(await sync.json(), { error: 'the request has no parent' })
  const customize = await fetch(url('hooks', '/hooks/storage-policy/customize'), { ...options, body: '{"parent":{}}' })
  t.match(await customize.text(), '"openebs.io/v1beta2"')
  child.kill('SIGINT')
  t.equal(await exited(), 0)
})

/** An operator in the middle of a call: Mayastor has been asked, and does not answer. */
async function busyOperator(t: Test) {
  const { server, url: mayastor } = await silentServer(t)
  const asked = once(server, 'request')
  const running = await operator(t, [`--mayastor-url=${mayastor}`])
  const call = fetch(running.url('hooks', '/hooks/replica-topology/sync'), {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ parent: { metadata: { name: 'a', uid: 'u' }, spec: { volumeID: 'v' } } }),
  })
  await asked
  return { ...running, call }
}

/** The answer of /readyz once the signal has been heard: two signals at once are one. */
async function unready(url: string): Promise<Response> {
  for (;;) {
    const response = await fetch(url)
    if (response.status !== 200) return response
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} while a call is running: it is finished first`, async (t) => {
    const { child, url, exited, lines, call } = await busyOperator(t)
    child.kill(signal)
    const readyz = await unready(url('health', '/readyz'))
    t.equal(readyz.status, 503)
    t.match(await readyz.json(), { status: 'stopping' })
    t.equal((await fetch(url('health', '/healthz'))).status, 200)
    await t.rejects(fetch(url('hooks', '/hooks/storage-policy/customize'), { method: 'POST' }), 'nothing new')
    t.equal((await call).status, 200)
    t.equal(await exited(), 0)
    t.equal(lines.at(-1)?.['msg'], 'stopped')
  })
}

t.test('a second signal does not wait', async (t) => {
  const { child, url, exited, call } = await busyOperator(t)
  const outcome = call.then(
    () => 'answered',
    () => 'cut',
  )
  child.kill('SIGTERM')
  await unready(url('health', '/readyz'))
  child.kill('SIGTERM')
  t.equal(await exited(), 1)
  t.equal(await outcome, 'cut')
})

t.test('logs for people by default', async (t) => {
  const child = start(t, anyPort)
  let output = ''
  let told = false
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    output += text
    if (told || !output.includes(' ready ')) return
    told = true
    child.kill('SIGTERM')
  })
  const [code] = await once(child, 'close')
  t.equal(code, 0)
  t.match(output, /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] INFO: /)
})
