import t from 'tap'
import type { MigrationStatus, ReplicaTopologySpec } from '../../src/api/replica-topology.js'
import { type Transition, transitionEvents } from '../../src/step/transitions.js'
import { migrationStatus } from '../builders.js'

const spec: ReplicaTopologySpec = {
  volumeID: 'v',
  policy: 'gold',
  claimRef: { namespace: 'apps', name: 'data', uid: 'claim-uid' },
  decision: { reason: 'Migrating', message: 'm' },
  pools: [],
}
const owner = { apiVersion: 'storage.billyronks.io/v1', kind: 'StoragePolicy', name: 'gold', uid: 'policy-uid' }
const transition = (changes: Partial<Transition>): Transition => ({
  topology: { name: 'pvc-v', uid: 'topology-uid', owners: [owner] },
  spec,
  before: undefined,
  after: undefined,
  letGo: false,
  ...changes,
})
const status = (changes: Partial<MigrationStatus> = {}) => migrationStatus('v', changes)
const analyzing = status({ phase: 'Analyzing', started: false })
const running = status({ phase: 'ScalingUp' })

t.test('what is told of which transition', async (t) => {
  type Status = MigrationStatus | undefined
  const cases: [name: string, before: Status, after: Status, reasons: string[]][] = [
    ['nothing runs', undefined, undefined, []],
    ['a first look', undefined, analyzing, []],
    ['still looking', analyzing, analyzing, []],
    ['declined', analyzing, status({ phase: 'Aborted', started: false }), []],
    ['declined at once', undefined, status({ phase: 'Aborted', started: false }), []],
    ['started', analyzing, running, ['MigrationStarted']],
    ['started at once', undefined, running, ['MigrationStarted']],
    ['another one started', status({ id: 'v-0', phase: 'Completed' }), running, ['MigrationStarted']],
    ['going on', running, status({ phase: 'WaitingSync' }), []],
    ['the next replica', status({ phase: 'ScalingDown' }), running, []],
    ['completed', status({ phase: 'ScalingDown' }), status({ phase: 'Completed' }), ['MigrationCompleted']],
    ['aborted', status({ phase: 'ScalingDown' }), status({ phase: 'Aborted' }), ['MigrationAborted']],
    ['aborted with nothing added', running, status({ phase: 'Aborted', started: false }), ['MigrationAborted']],
    ['failed', running, status({ phase: 'Failed' }), ['MigrationFailed']],
    ['held', running, status({ phase: 'Held' }), ['MigrationHeld']],
    ['still held', status({ phase: 'Held' }), status({ phase: 'Held' }), []],
    ['held, then undone', status({ phase: 'Held' }), status({ phase: 'Aborted' }), ['MigrationAborted']],
    ['still completed', status({ phase: 'Completed' }), status({ phase: 'Completed' }), []],
    ['seen only when it was over', undefined, status({ phase: 'Failed' }), ['MigrationStarted', 'MigrationFailed']],
    ['forgotten', running, undefined, []],
  ]
  for (const [name, before, after, reasons] of cases) {
    const events = transitionEvents(transition({ before, after }))
    t.strictSame(
      events.map(({ reason, regarding }) => [reason, regarding.kind]),
      reasons.flatMap((reason) => [
        [reason, 'StoragePolicy'],
        [reason, 'PersistentVolumeClaim'],
      ]),
      name,
    )
    t.strictSame(transitionEvents(transition({ before, after })), events, `${name}, the same when computed again`)
    if (after !== undefined)
      t.strictSame(transitionEvents(transition({ before: after, after })), [], `${name}, after it`)
  }
})

t.test('what they say', async (t) => {
  const [ofPolicy, ofClaim] = transitionEvents(transition({ before: analyzing, after: status({ replicasTotal: 3 }) }))
  t.strictSame(ofPolicy, {
    type: 'Normal',
    reason: 'MigrationStarted',
    message: 'migration v-1 of apps/data to NVMe started: 3 replicas to move',
    key: 'v-1/MigrationStarted',
    regarding: { apiVersion: 'storage.billyronks.io/v1', kind: 'StoragePolicy', name: 'gold', uid: 'policy-uid' },
  })
  t.strictSame(ofClaim, {
    ...ofPolicy,
    regarding: {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      namespace: 'apps',
      name: 'data',
      uid: 'claim-uid',
    },
  })
  const failed = status({ direction: 'Demote', phase: 'Failed', message: 'the count was changed' })
  t.match(transitionEvents(transition({ before: running, after: failed })), [
    { type: 'Warning', message: 'migration v-1 of apps/data to SATA failed: the count was changed' },
    {},
  ])
  const held = (changes: Partial<MigrationStatus>) =>
    transitionEvents(transition({ before: running, after: status({ phase: 'Held', message: 'm', ...changes }) }))[0]
  const command = 'kubectl annotate rt pvc-v storage.billyronks.io/release=v-1 --overwrite'
  t.equal(
    held({ holdId: 'v-1' })?.message,
    `migration v-1 of apps/data to NVMe is held: m; it goes on when released: ${command}`,
  )
  t.match(held({})?.message, /is held: m; it goes on by itself when that is over$/)
})

t.test('without a claim, and of a policy that is not the owner any more', async (t) => {
  const { claimRef: _, ...bare } = spec
  const topology = { name: 'pvc-v', uid: 'topology-uid', owners: [{ ...owner, name: 'another' }] }
  t.match(transitionEvents(transition({ topology, spec: bare, before: analyzing, after: running })), [
    { message: /of pvc-v to NVMe/, regarding: { kind: 'StoragePolicy', name: 'gold', uid: undefined } },
  ])
})

t.test('let go', async (t) => {
  const events = transitionEvents(transition({ before: running, after: running, letGo: true }))
  t.match(events, [
    { type: 'Warning', reason: 'LetGo', key: 'topology-uid/LetGo', message: /pvc-v of apps\/data was let go/ },
    { reason: 'LetGo', regarding: { kind: 'PersistentVolumeClaim' } },
  ])
})
