import { createServer, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { ClientCredentials } from '../../src/clients/credentials.js'
import { type CallReport, type MayastorClient, MayastorError, mayastorClient } from '../../src/clients/mayastor.js'
import { systemClock } from '../../src/clock.js'
import { authority } from '../pki.js'

/** A write may leave any time. */
const SOON = Number.POSITIVE_INFINITY

type Handler = (call: { method: string; path: string; body: string }, response: ServerResponse) => void

async function client(t: Test, handler: Handler, prefix = '') {
  const calls: string[] = []
  const reports: CallReport[] = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const call = { method: request.method ?? '', path: request.url ?? '', body }
    calls.push(`${call.method} ${call.path}${body === '' ? '' : ` ${body}`}`)
    handler(call, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const mayastor = mayastorClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`,
    clock: systemClock,
    timeoutMs: 3_000,
    onCall: (report) => reports.push(report),
  })
  t.teardown(async () => {
    server.closeAllConnections()
    server.close()
    await mayastor.close()
  })
  return { mayastor, calls, reports }
}

const answer = (status: number, body: unknown): Handler => {
  return (_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
}

/** A published volume with one synced and one rebuilding replica, as api-rest spells it. */
const wireVolume = {
  spec: {
    uuid: 'v1',
    size: 1000,
    num_replicas: 2,
    status: 'Created',
    operation: { operation: 'SetReplica' },
    target: { node: 'node-1', protocol: 'nvmf' },
    policy: { self_heal: true },
    topology: {
      node_topology: { labelled: { inclusion: { zone: '' }, exclusion: { rack: 'r1' } } },
      pool_topology: { labelled: { inclusion: { 'openebs.io/created-by': 'operator-diskpool' }, exclusion: {} } },
    },
    thin: false,
    as_thin: true,
    affinity_group: { id: 'ns/set' },
    num_snapshots: 3,
    something_new: { of: ['a', 'later', 'version'] },
  },
  state: {
    uuid: 'v1',
    size: 1000,
    status: 'Degraded',
    target: { node: 'node-1', uuid: 'nexus', state: 'Degraded', children: [{}, {}], rebuilds: 1 },
    replica_topology: {
      r2: { node: 'node-2', pool: 'p2', state: 'Online', 'child-status': 'Degraded', 'rebuild-progress': 41 },
      r1: { node: 'node-1', pool: 'p1', state: 'Online', 'child-status': 'Online', usage: { allocated: 400 } },
      r3: { state: 'Unknown', 'child-status-reason': 'OutOfSpace' },
    },
  },
}

t.test('behind TLS and a token', async (t) => {
  const ca = await authority()
  const other = await authority('another')
  const { certificate, key } = await ca.issue()
  let accepted = 'one'
  const seen: unknown[] = []
  const server = createTlsServer({ cert: certificate, key }, (request, response) => {
    const { authorization } = request.headers
    seen.push([request.method, authorization])
    request.resume()
    if (authorization === `Bearer ${accepted}`) response.writeHead(200).end('[]')
    else response.writeHead(401).end(JSON.stringify({ kind: 'Unauthorized', details: 'no', message: 'no' }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  let shown: ClientCredentials = { token: 'one', authorities: ca.certificate }
  const mayastor = mayastorClient({ url, clock: systemClock, timeoutMs: 2_000, credentials: () => shown })
  t.teardown(async () => {
    await mayastor.close()
    server.closeAllConnections()
    server.close()
  })
  t.strictSame(await mayastor.pools(), [])
  await mayastor.cordonPool('p', SOON)
  t.strictSame(seen, [
    ['GET', 'Bearer one'],
    ['PUT', 'Bearer one'],
  ])
  accepted = 'two'
  t.match(await mayastor.pools().catch((error: unknown) => error), { failure: 'refused', status: 401 })
  shown = { ...shown, token: 'two' }
  t.strictSame(await mayastor.pools(), [], 'a token that was replaced')
  seen.length = 0
  for (const authorities of [other.certificate, undefined]) {
    shown = { token: 'two', ...(authorities === undefined ? {} : { authorities }) }
    await t.rejects(mayastor.pools(), { failure: 'unknown', message: 'GET /pools: no connection' })
  }
  t.strictSame(seen, [], 'a server that is not trusted is not told the token')
  shown = { token: 'two', authorities: `${other.certificate}\n${ca.certificate}` }
  t.strictSame(await mayastor.pools(), [], 'authorities that were replaced')
})

t.test('a volume', async (t) => {
  const { mayastor, calls } = await client(t, answer(200, wireVolume))
  t.strictSame(await mayastor.volume('v1'), {
    uuid: 'v1',
    sizeBytes: 1000,
    numReplicas: 2,
    lifecycle: 'Created',
    operation: 'SetReplica',
    published: true,
    selfHeal: true,
    thin: true,
    snapshots: 3,
    affinityGroup: 'ns/set',
    encrypted: undefined,
    clusterSize: undefined,
    topology: {
      poolLabels: { 'openebs.io/created-by': 'operator-diskpool' },
      allowedNodes: undefined,
      nodeInclusion: { zone: '' },
      nodeExclusion: { rack: 'r1' },
    },
    state: 'Degraded',
    target: { node: 'node-1', nexus: 'nexus', state: 'Degraded', children: 2 },
    replicas: [
      {
        uuid: 'r1',
        pool: 'p1',
        node: 'node-1',
        state: 'Online',
        childState: 'Online',
        childReason: undefined,
        rebuildPercent: undefined,
        allocatedBytes: 400,
        synced: true,
      },
      {
        uuid: 'r2',
        pool: 'p2',
        node: 'node-2',
        state: 'Online',
        childState: 'Degraded',
        childReason: undefined,
        rebuildPercent: 41,
        allocatedBytes: 0,
        synced: false,
      },
      {
        uuid: 'r3',
        pool: undefined,
        node: undefined,
        state: 'Unknown',
        childState: undefined,
        childReason: 'OutOfSpace',
        rebuildPercent: undefined,
        allocatedBytes: 0,
        synced: false,
      },
    ],
  })
  t.strictSame(calls, ['GET /v0/volumes/v1'])
})

t.test('what a volume may lack or have besides', async (t) => {
  const { spec, state } = wireVolume
  const { target: _, operation: __, ...unpublished } = spec
  const rows = [
    { name: 'no target: unpublished', volume: { spec: unpublished, state }, want: { published: false } },
    {
      name: 'a target without a protocol: an offline rebuild, not published',
      volume: { spec: { ...spec, target: { node: 'node-1' } }, state },
      want: { published: false },
    },
    {
      name: 'an operation with a result is over',
      volume: { spec: { ...spec, operation: { operation: 'Resize', result: true } }, state },
      want: { operation: undefined },
    },
    {
      name: 'an operation whose result is null still runs',
      volume: { spec: { ...spec, operation: { operation: 'Resize', result: null } }, state },
      want: { operation: 'Resize' },
    },
    {
      name: 'a protocol that is null is none',
      volume: { spec: { ...spec, target: { node: 'node-1', protocol: null } }, state },
      want: { published: false },
    },
    {
      name: 'an Online child of no target is not synced',
      volume: { spec, state: { ...state, target: undefined } },
      want: { target: undefined, replicas: [{ uuid: 'r1', synced: false }] },
    },
    {
      name: 'explicit nodes',
      volume: { spec: { ...spec, topology: { node_topology: { explicit: { allowed_nodes: ['n'] } } } }, state },
      want: { topology: { allowedNodes: ['n'] } },
    },
  ]
  for (const { name, volume, want } of rows) {
    const { mayastor } = await client(t, answer(200, volume))
    t.match(await mayastor.volume('v1'), want, name)
  }
})

t.test('lists', async (t) => {
  const pool = { id: 'p1', spec: { node: 'node-1', labels: { tier: 'nvme' } } }
  const state = { node: 'node-1', capacity: 100, used: 10, committed: 20, status: 'Online' }
  const rows: { path: string; body: unknown; read: (m: MayastorClient) => Promise<unknown>; want: unknown }[] = [
    {
      path: '/v0/volumes?max_entries=500&starting_token=0',
      body: { entries: [wireVolume, wireVolume] },
      read: async (m) => (await m.volumes()).map((volume) => volume.uuid),
      want: ['v1'],
    },
    {
      path: '/v0/pools',
      body: [pool, { ...pool, id: 'p2', state }, { ...pool, id: 'p2', state }],
      read: async (m) => (await m.pools()).map(({ id, status, usedBytes }) => [id, status, usedBytes]),
      want: [
        ['p1', 'Unknown', 0],
        ['p2', 'Online', 10],
      ],
    },
    {
      path: '/v0/pools',
      body: [
        { ...pool, spec: { ...pool.spec, cordonDrain: { cordoned: { replicas: true, restores: true } } } },
        { ...pool, id: 'p2', spec: { ...pool.spec, cordon_drain: { draining: {} } } },
        { ...pool, id: 'p3', spec: { ...pool.spec, cordonDrain: { drain: { userCordon: { replicas: true } } } } },
      ],
      read: async (m) => (await m.pools()).map(({ cordon, draining }) => [cordon.replicas, cordon.import, draining]),
      want: [
        [true, false, false],
        [false, false, true],
        [true, false, true],
      ],
    },
    {
      path: '/v0/nodes',
      body: [
        {
          id: 'n1',
          spec: { cordondrainstate: { cordonedstate: { cordonlabels: ['x'] } } },
          state: { status: 'Online' },
        },
        { id: 'n2', spec: { cordondrainstate: { drainingstate: { cordonlabels: [], drainlabels: ['d'] } } } },
      ],
      read: async (m) => (await m.nodes()).map((n) => [n.id, n.online, n.cordonLabels, n.drainLabels]),
      want: [
        ['n1', true, ['x'], []],
        ['n2', false, [], ['d']],
      ],
    },
    {
      path: '/v0/api/spec',
      body: { paths: { '/pools/{pool_id}/cordon': {} } },
      read: (m) => m.capabilities(),
      want: { poolCordon: true },
    },
    { path: '/v0/api/spec', body: { paths: {} }, read: (m) => m.capabilities(), want: { poolCordon: false } },
  ]
  for (const { path, body, read, want } of rows) {
    const { mayastor, calls } = await client(t, answer(200, body))
    t.strictSame(await read(mayastor), want, path)
    t.strictSame(calls, [`GET ${path}`])
  }
})

t.test('volumes come in pages, and each is there once', async (t) => {
  const volume = (uuid: string) => ({ ...wireVolume, spec: { ...wireVolume.spec, uuid } })
  const { mayastor, calls } = await client(t, ({ path }, response) => {
    const page = path.endsWith('=0')
      ? { entries: [volume('a'), volume('b')], next_token: 500 }
      : { entries: [volume('b'), volume('c')] }
    response.end(JSON.stringify(page))
  })
  t.strictSame(
    (await mayastor.volumes()).map(({ uuid }) => uuid),
    ['a', 'b', 'c'],
  )
  t.strictSame(calls, [
    'GET /v0/volumes?max_entries=500&starting_token=0',
    'GET /v0/volumes?max_entries=500&starting_token=500',
  ])
})

t.test('writes', async (t) => {
  const bits = '{"replicas":true,"snapshots":false,"restores":false,"import":false}'
  const rows: { write: (m: MayastorClient) => Promise<void>; want: string }[] = [
    { write: (m) => m.setReplicaCount('v1', 3, SOON), want: 'PUT /base/v0/volumes/v1/replica_count/3' },
    { write: (m) => m.cordonPool('a/b', SOON), want: `PUT /base/v0/pools/a%2Fb/cordon ${bits}` },
    { write: (m) => m.uncordonPool('p1', SOON), want: `DELETE /base/v0/pools/p1/cordon ${bits}` },
    { write: (m) => m.cordonNode('n1', 'tier-move-1', SOON), want: 'PUT /base/v0/nodes/n1/cordon/tier-move-1' },
    { write: (m) => m.uncordonNode('n1', 'tier-move-1', SOON), want: 'DELETE /base/v0/nodes/n1/cordon/tier-move-1' },
  ]
  for (const { write, want } of rows) {
    const { mayastor, calls } = await client(t, answer(200, {}), '/base/')
    await write(mayastor)
    t.strictSame(calls, [want])
  }
})

t.test('a write that comes too late is not sent', async (t) => {
  const { mayastor, calls, reports } = await client(t, answer(200, {}))
  const error = await mayastor.setReplicaCount('v1', 3, systemClock.monotonic() - 1).catch((error: unknown) => error)
  t.match(error, { failure: 'unsent', message: 'PUT /volumes/v1/replica_count/3: too late to be sent' })
  t.strictSame(calls, [])
  t.match(reports, [{ outcome: 'unsent' }])
})

t.test('what a failed call means', async (t) => {
  const rest = (kind: string) => ({ kind, details: 'SvcError::Something', message: 'no' })
  const rows: { name: string; handler: Handler; want: Partial<MayastorError> }[] = [
    {
      name: 'refused',
      handler: answer(412, rest('FailedPrecondition')),
      want: { failure: 'refused', status: 412, kind: 'FailedPrecondition', details: 'SvcError::Something' },
    },
    { name: 'a conflict', handler: answer(409, rest('Conflict')), want: { failure: 'refused', status: 409 } },
    { name: 'timed out, may go on', handler: answer(408, rest('Timeout')), want: { failure: 'unknown', status: 408 } },
    { name: 'no room', handler: answer(507, rest('ResourceExhausted')), want: { failure: 'refused' } },
    { name: 'etcd is in trouble', handler: answer(507, rest('FailedPersist')), want: { failure: 'unknown' } },
    {
      name: 'gateway',
      handler: answer(504, 'not an object'),
      want: { failure: 'unknown', status: 504, kind: undefined },
    },
    {
      name: 'no answer in time',
      handler: () => {},
      want: { failure: 'unknown', message: 'PUT /volumes/v1/replica_count/3: no answer within 3000 ms' },
    },
    {
      name: 'the connection breaks',
      handler: (_, response) => response.destroy(),
      want: { failure: 'unknown', message: 'PUT /volumes/v1/replica_count/3: no connection' },
    },
    {
      name: 'not JSON',
      handler: (_, response) => response.end('<html>'),
      want: { failure: 'invalid', message: 'PUT /volumes/v1/replica_count/3: the answer is not JSON' },
    },
  ]
  for (const { name, handler, want } of rows) {
    const { mayastor, calls, reports } = await client(t, handler)
    const error = await mayastor.setReplicaCount('v1', 3, SOON).catch((error: unknown) => error)
    t.ok(error instanceof MayastorError, name)
    t.match(error, want)
    t.equal(calls.length, 1, 'is never sent again')
    t.match(reports, [{ method: 'PUT', route: '/volumes/{id}/replica_count/{n}', outcome: want.failure }])
  }
})

t.test('an answer that lacks what is needed names it', async (t) => {
  const rows: [string, unknown, string][] = [
    ['no spec', { state: {} }, 'volume.spec'],
    ['no count', { ...wireVolume, spec: { ...wireVolume.spec, num_replicas: '2' } }, 'volume.spec.num_replicas'],
    ['no status', { ...wireVolume, state: {} }, 'volume.state.status'],
    ['a replica without a state', { ...wireVolume, state: { status: 'Online', replica_topology: { r1: {} } } }, 'r1'],
  ]
  for (const [name, body, where] of rows) {
    const { mayastor } = await client(t, answer(200, body))
    const error = await mayastor.volume('v1').catch((error: unknown) => error)
    t.match(error, { failure: 'invalid', message: new RegExp(`without .*${where.replaceAll('.', '\\.')}`) }, name)
  }
})

t.test('an unknown volume is no error', async (t) => {
  const { mayastor } = await client(t, answer(404, { kind: 'NotFound' }))
  t.equal(await mayastor.volume('v1'), undefined)
})
