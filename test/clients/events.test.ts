import type { CoreV1Event } from '@kubernetes/client-node'
import t from 'tap'
import type { NewEvent } from '../../src/api/kubernetes.js'
import { eventObject, kubernetesEvents } from '../../src/clients/events.js'
import { systemClock } from '../../src/clock.js'
import { apiServer } from '../api-server.js'

const claim = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'apps', name: 'data', uid: 'u-1' }
const event: NewEvent = {
  regarding: claim,
  type: 'Normal',
  reason: 'MigrationStarted',
  message: 'a sentence',
  key: 'v-1/MigrationStarted',
}
const clock = { ...systemClock, now: () => Date.UTC(2026, 0, 1, 12) }

t.test('an event as the API server wants it', async (t) => {
  const api = await apiServer(t)
  const writer = await kubernetesEvents({ config: api.config(), clock })
  t.strictSame(await writer.write(event), { outcome: 'created' })
  const policy = { apiVersion: 'storage.billyronks.io/v1', kind: 'StoragePolicy', name: 'gold', uid: 'u-2' }
  t.strictSame(await writer.write({ ...event, regarding: policy, message: 'x'.repeat(2_000) }), { outcome: 'created' })
  const events = api.store.list<CoreV1Event>('v1', 'Event')
  const ofClaim = events.find(({ metadata }) => metadata.namespace === 'apps')
  const ofPolicy = events.find(({ metadata }) => metadata.namespace !== 'apps')
  t.match(ofClaim, {
    metadata: { namespace: 'apps', name: /^tier-move-[0-9a-f]{32}$/ },
    involvedObject: claim,
    type: 'Normal',
    reason: 'MigrationStarted',
    message: 'a sentence',
    source: { component: 'smart-storage-operator' },
    reportingComponent: 'smart-storage-operator',
    firstTimestamp: /^2026-01-01T12:00:00/,
    lastTimestamp: /^2026-01-01T12:00:00/,
    count: 1,
  })
  t.match(ofPolicy, { metadata: { namespace: 'default' }, involvedObject: policy }, 'cluster-scoped')
  t.equal(ofPolicy?.involvedObject.namespace, undefined)
  t.equal(ofPolicy?.message?.length, 1024)
})

t.test('a repeat changes nothing', async (t) => {
  const api = await apiServer(t)
  const writer = await kubernetesEvents({ config: api.config(), clock })
  await writer.write(event)
  const [first] = api.store.list('v1', 'Event')
  const another = await kubernetesEvents({ config: api.config(), clock: systemClock })
  t.strictSame(await another.write({ ...event, message: 'other words' }), { outcome: 'exists' })
  t.strictSame(api.store.list('v1', 'Event'), [first])
})

t.test('the name follows from the object and the key', async (t) => {
  const nameOf = (changes: Partial<NewEvent>) => eventObject({ ...event, ...changes }, 0).metadata.name
  t.equal(nameOf({ message: 'other words', type: 'Warning' }), nameOf({}))
  const others = [
    nameOf({}),
    nameOf({ key: 'v-1/MigrationCompleted' }),
    nameOf({ key: 'v-2/MigrationStarted' }),
    nameOf({ regarding: { ...claim, uid: 'u-2' } }),
    nameOf({ regarding: { ...claim, name: 'other' } }),
    nameOf({ regarding: { ...claim, namespace: 'other' } }),
    nameOf({ regarding: { ...claim, kind: 'StoragePolicy' } }),
  ]
  t.equal(new Set(others).size, others.length)
})

t.test('an event that cannot be written is no error', async (t) => {
  const api = await apiServer(t)
  const writer = await kubernetesEvents({ config: api.config(), clock, timeoutMs: 200 })
  api.forbids = ({ resource }) => resource === 'events'
  t.strictSame(await writer.write(event), { outcome: 'refused', detail: 'HTTP 403' })
  for (const [answer, expected] of [
    [400, { outcome: 'refused', detail: 'HTTP 400' }],
    [404, { outcome: 'refused', detail: 'HTTP 404' }],
    [429, { outcome: 'failed', detail: 'HTTP 429' }],
    [500, { outcome: 'failed', detail: 'HTTP 500' }],
    ['hang', { outcome: 'failed', detail: 'no answer' }],
  ] as const) {
    api.instead = () => answer
    t.strictSame(await writer.write(event), expected, String(answer))
  }
})
