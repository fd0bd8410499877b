import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { KubeConfig } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { kubernetesLeases, LeaseError, type LeaseStore, memoryLeases } from '../../src/clients/leases.js'
import { systemClock } from '../../src/clock.js'

/** Enough of the API server for Leases: resourceVersions, 404, 409, label selection; and ways to misbehave. */
async function apiServer(t: Test, behave: { answer?: number; hang?: boolean } = {}) {
  const leases = new Map<string, { metadata: Record<string, unknown>; spec: Record<string, unknown> }>()
  let version = 0
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '', 'http://localhost').pathname
    const [, name] = /\/namespaces\/storage\/leases\/?([^/]*)$/.exec(path) ?? []
    const send = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    const refuse = (code: number) => send(code, { kind: 'Status', code, message: 'no' })
    if (behave.hang) return
    if (behave.answer !== undefined) return refuse(behave.answer)
    const sent = await json(request)
    const stored = leases.get(name || sent?.metadata?.name)
    if (request.method === 'GET') {
      if (name === '') return send(200, { kind: 'LeaseList', metadata: {}, items: [...leases.values()] })
      return stored === undefined ? refuse(404) : send(200, stored)
    }
    if (request.method === 'POST' ? stored !== undefined : stored === undefined) {
      return refuse(request.method === 'POST' ? 409 : 404)
    }
    const expected = sent.metadata?.resourceVersion ?? sent.preconditions?.resourceVersion
    if (request.method !== 'POST' && expected !== stored?.metadata['resourceVersion']) return refuse(409)
    if (request.method === 'DELETE') {
      leases.delete(name as string)
      return send(200, { kind: 'Status' })
    }
    const lease = { ...sent, metadata: { ...sent.metadata, resourceVersion: String(++version) } }
    leases.set(lease.metadata.name, lease)
    send(200, lease)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const config = new KubeConfig()
  config.loadFromClusterAndUser(
    { name: 'test', server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, skipTLSVerify: true },
    { name: 'test' },
  )
  return { leases, store: await kubernetesLeases({ config, namespace: 'storage', clock: systemClock, timeoutMs: 500 }) }
}

async function json(request: IncomingMessage) {
  let text = ''
  for await (const chunk of request) text += chunk
  return text === '' ? undefined : JSON.parse(text)
}

const record = (data: string) => ({ name: 'move-1', holder: 'me', renewedAt: Date.UTC(2026, 0, 1), data })

const stores: Record<string, (t: Test) => Promise<LeaseStore>> = {
  'in memory': async () => memoryLeases(),
  'Kubernetes API': async (t) => (await apiServer(t)).store,
}

for (const [name, open] of Object.entries(stores)) {
  t.test(`compare-and-swap: ${name}`, async (t) => {
    const store = await open(t)
    t.equal(await store.get('move-1'), undefined, 'nothing is there')
    const first = await store.create(record('one'))
    if (first === 'conflict') return t.fail('created')
    t.match(first, record('one'))
    t.equal(await store.create(record('two')), 'conflict', 'it exists already')
    const second = await store.replace(record('two'), first.version)
    if (second === 'conflict') return t.fail('replaced')
    t.not(second.version, first.version, 'every write has a version of its own')
    t.equal(await store.replace(record('three'), first.version), 'conflict', 'somebody else was first')
    t.strictSame(await store.get('move-1'), second, 'a lost swap changes nothing')
    t.strictSame(await store.list(), [second])
    await store.remove('move-1', first.version)
    t.strictSame(await store.list(), [second], 'a version that has passed removes nothing')
    await store.remove('move-1', second.version)
    t.strictSame(await store.list(), [])
    t.equal(await store.replace(record('four'), second.version), 'conflict', 'it is gone')
  })
}

t.test('a Lease is one that people and the API server can read', async (t) => {
  const { store, leases } = await apiServer(t)
  await store.create(record('{}'))
  t.match(leases.get('move-1'), {
    metadata: { namespace: 'storage', labels: { 'app.kubernetes.io/managed-by': 'smart-storage-operator' } },
    spec: { holderIdentity: 'me', leaseDurationSeconds: 45, renewTime: '2026-01-01T00:00:00.000000Z' },
  })
})

for (const [name, behave, message] of [
  ['refused', { answer: 403 }, 'get lease x: HTTP 403'],
  ['an error', { answer: 500 }, 'get lease x: HTTP 500'],
  ['no answer', { hang: true }, 'get lease x: no answer within 500 ms'],
] as const) {
  t.test(`the API server: ${name}`, async (t) => {
    const { store } = await apiServer(t, behave)
    await t.rejects(store.get('x'), new LeaseError(message))
    await t.rejects(store.create(record('')), LeaseError)
    await t.rejects(store.list(), LeaseError)
  })
}
