import t from 'tap'
import type { JsonObject, KubernetesObject } from '../../src/api/kubernetes.js'
import { DECISION_REASONS } from '../../src/api/reasons.js'
import type { MigrationStatus } from '../../src/api/replica-topology.js'
import { explain, policyState } from '../../src/explain/explanation.js'
import { print } from '../../src/explain/print.js'
import { type ChildSetup, migration, migrationStatus, policy, topology } from '../builders.js'

const explained = (child: ChildSetup = {}) => explain(topology({ id: 'a', child }))
const cooldown = 'migration a-1 ended lately; next one not before 2027-01-15T08:00:00Z'

t.test('the order things are put into', async (t) => {
  const decision = {
    tier: 'NVMe' as const,
    reason: 'Cooldown',
    message: `IOPS above 5000 over 1h; ${cooldown}`,
    holds: [
      { reason: 'Cooldown', message: cooldown },
      { reason: 'Snapshots', message: '2 snapshots' },
    ],
  }
  const last = migrationStatus('a', { phase: 'Completed' })
  t.strictSame(explained({ spec: { decision }, status: { tier: 'SATA', migration: last } }), {
    volume: 'pvc-a',
    volumeID: 'a',
    claim: { namespace: 'apps', name: 'claim-a' },
    policy: 'tiering',
    where: { tier: 'SATA', state: 'Online', replicas: topology({ id: 'a' }).status?.['replicas'] },
    belongs: { tier: 'NVMe', reason: 'Cooldown', message: decision.message },
    holds: decision.holds,
    migration: last,
    next: { what: 'moves when its cooldown is over, if its IOPS still ask for it', when: '2027-01-15T08:00:00Z' },
    warnings: [],
  })
})

t.test('every reason of a decision says what comes next', async (t) => {
  for (const reason of Object.keys(DECISION_REASONS)) {
    if (reason === 'Migrating' || reason === 'Held') continue
    const { next } = explained({ spec: { decision: { reason, message: 'm' } } })
    t.match(next.what, /^(moves|stays|is|keeps)\b/, reason)
    t.notMatch(next.what, /[{}]/, reason)
    t.ok(next.when)
  }
  const unknown = explained({ spec: { decision: { reason: 'OfALaterVersion', message: 'm' } } })
  t.equal(unknown.next.what, 'moves when what holds it is over')
})

t.test('every phase of a migration says what comes next', async (t) => {
  const wanted = migration('a')
  const current = { replica: 'r', sourcePool: 'sata-1', targetPool: 'nvme-3', rebuildPercent: 40 }
  const next = (changes: Partial<MigrationStatus>, spec: ChildSetup['spec'] = { migration: wanted }) =>
    explained({ spec: spec ?? {}, status: { migration: migrationStatus('a', { message: 'm', current, ...changes }) } })
      .next
  t.strictSame(next({ phase: 'WaitingSync', replicasMoved: 0, replicasTotal: 3 }), {
    what: 'the replica on nvme-3 is rebuilt (40 %), then the one on sata-1 goes, then 2 more',
    when: 'when the rebuild is done',
  })
  t.match(next({ phase: 'WaitingSync', replicasMoved: 2, replicasTotal: 3 }), { what: /goes$/ })
  t.match(next({ phase: 'ScalingUp' }), { what: 'a replica is added on nvme-3: m' })
  t.match(next({ phase: 'ScalingDown' }), { what: /^m/ })
  t.match(next({ phase: 'Analyzing', started: false }), { what: 'm', when: /within a minute/ })
  t.strictSame(next({ phase: 'Held', holdId: 'a-1/2' }), {
    what: 'm; it goes on when released: kubectl annotate rt pvc-a storage.billyronks.io/release=a-1/2 --overwrite',
    when: 'when a person has looked and released it',
  })
  t.strictSame(next({ phase: 'Held' }), {
    what: 'm; it goes on by itself when that is over',
    when: 'when that is over',
  })
  t.match(next({ phase: 'ScalingUp' }, {}), { what: /^withdrawn; / }, 'the policy wants it no longer')
  t.match(explained({ spec: { migration: wanted } }).next, { what: /^migration a-1 begins/ }, 'decided, not begun')
  const ended = explained({
    spec: { migration: wanted, decision: { reason: 'OnWantedTier', message: 'm' } },
    status: { migration: migrationStatus('a', { phase: 'Completed' }) },
  })
  t.match(ended.next, { what: /^stays/ }, 'over, and not decided anew')
})

t.test('what is not there', async (t) => {
  t.match(explained({ status: null }), {
    where: { tier: 'Unknown', state: undefined, replicas: [] },
    migration: undefined,
    next: { what: /^is read from Mayastor/, when: 'within seconds' },
  })
  t.equal(explained({ spec: { claimRef: undefined as never } }).claim, undefined)
  t.match(explained({ meta: { deletionTimestamp: '2027-01-01T00:00:00Z' } }).next, { what: /^is let go/ })
})

t.test('conditions that are not as they should be', async (t) => {
  const condition = (type: string, status: 'True' | 'False' | 'Unknown') => ({
    type,
    status,
    reason: 'r',
    message: `${type} is ${status}`,
    lastTransitionTime: '2027-01-01T00:00:00Z',
  })
  const conditions = [
    condition('Observed', 'True'),
    condition('RemoteTarget', 'True'),
    condition('BracketOpen', 'False'),
    condition('Held', 'True'),
  ]
  t.strictSame(explained({ status: { conditions } }).warnings, ['RemoteTarget is True'])
  t.strictSame(explained({ status: { conditions: [condition('Observed', 'Unknown')] } }).warnings, [
    'Observed is Unknown',
  ])
})

t.test('policies', async (t) => {
  const of = (ready: JsonObject, ...more: JsonObject[]) =>
    policyState(
      policy({ status: { phase: 'Active', conditions: [{ type: 'Ready', ...ready }, ...more] } }) as KubernetesObject,
    )
  t.strictSame(of({ status: 'True', reason: 'Deciding', message: 'm' }), {
    name: 'tiering',
    phase: 'Active',
    ready: true,
  })
  t.strictSame(of({ status: 'False', reason: 'NoPools', message: 'm' }), {
    name: 'tiering',
    phase: 'Active',
    ready: false,
    reason: 'NoPools',
    message: 'm',
  })
  const stalled = { type: 'Stalled', status: 'True', message: 'look, then resume' }
  t.strictSame(of({ status: 'True', reason: 'Deciding', message: 'm' }, stalled), {
    name: 'tiering',
    phase: 'Active',
    ready: true,
    stalled: 'look, then resume',
  })
  t.match(policyState(policy()), { phase: 'Pending', ready: false, message: /is Metacontroller running/ })
})

t.test('a policy that is stalled comes first', async (t) => {
  const state = { name: 'tiering', phase: 'Active', ready: true }
  const [line] = print({ policies: [{ ...state, stalled: 'look, then resume' }, state], volumes: [] }, 'table', false)
    .split('\n')
    .filter((text) => text.startsWith('StoragePolicy'))
  t.equal(line, 'StoragePolicy tiering starts nothing new: look, then resume')
})
