import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Checker } from '../../src/embedded/checker.js'
import { diskPoolStatuses, startLive } from '../../src/embedded/live.js'
import { folders, localManifests, MANIFESTS, type Manifest, parseObjects } from '../manifests/render.js'
import { freePort } from '../ports.js'
import { apply, eventually, get, kubectl, list, tryKubectl } from './kubectl.js'
import { Operator } from './operator.js'

/**
 * `npm run test:e2e`: against the cluster of the current kubeconfig, which has Metacontroller and no OpenEBS. Our CRDs and
 * controllers are installed there; the operator runs here, with no more rights than its ServiceAccount has, and so does
 * the simulated Mayastor. What it installs it removes again, in the order of docs/install.md.
 *
 * E2E_HOOK_HOST: this machine as Metacontroller reaches it. Default 127.0.0.1, for a Metacontroller that runs here too.
 */

const HOOK_HOST = process.env['E2E_HOOK_HOST'] ?? '127.0.0.1'
const NAMESPACE = 'smart-storage-system'
const OPERATOR = 'smart-storage-operator'
const POLICY = 'e2e'
const SERVICE_URL = `http://${OPERATOR}.${NAMESPACE}.svc:8082`
const MAX_MIGRATIONS = 2
const ENDED = ['Completed', 'Aborted', 'Failed']

const read = (path: string) => parseObjects(readFileSync(join(MANIFESTS, path), 'utf8'))
const spec = (more: object): Manifest => ({ ...read('examples/simulated.yaml')[0].spec, ...more })
const policy = (name: string, more: object = {}): Manifest => ({
  ...read('examples/simulated.yaml')[0],
  metadata: { name },
  spec: spec(more),
})
const condition = (object: Manifest, type: string): Manifest =>
  object.status?.conditions?.find((candidate: Manifest) => candidate.type === type)
const world = read('components/simulated/world.yaml')
const claimed = (claim: string): string =>
  world.find(({ kind, spec }) => kind === 'PersistentVolume' && spec.claimRef.name === claim).metadata.name

/** A kubeconfig for the operator's ServiceAccount: it can do what its roles say and nothing else. */
async function operatorKubeconfig(folder: string): Promise<string> {
  const token = (await kubectl(['create', 'token', OPERATOR, '-n', NAMESPACE, '--duration=2h'])).trim()
  const current = JSON.parse(await kubectl(['config', 'view', '--raw', '--minify', '--flatten', '-o', 'json']))
  const users = [{ name: OPERATOR, user: { token } }]
  const contexts = [{ name: OPERATOR, context: { cluster: current.clusters[0].name, user: OPERATOR } }]
  const path = join(folder, 'operator.kubeconfig')
  writeFileSync(path, JSON.stringify({ ...current, users, contexts, 'current-context': OPERATOR }), { mode: 0o600 })
  return path
}

t.test('the operator in a cluster', { timeout: 60 * 60_000 }, async (t) => {
  /** The next thing to see; left out once something was not as it should be. */
  const step = (name: string, body: (t: Test) => Promise<unknown>) =>
    t.test(name, { skip: t.passing() ? false : 'after a failure' }, body)
  const folder = mkdtempSync(join(tmpdir(), 'e2e-'))
  t.comment(`logs in ${folder}`)
  const { stdout: found } = await tryKubectl(['get', 'crds', '-o', 'name'])
  if (!found.includes('compositecontrollers.metacontroller.k8s.io')) {
    throw new Error('there is no Metacontroller: kubectl apply --server-side -k manifests/metacontroller')
  }
  if (/diskpools\.openebs\.io|\.storage\.billyronks\.io/.test(found)) {
    throw new Error('the cluster has DiskPools or StoragePolicies: this test is for throw-away clusters without')
  }

  await step('the CRDs are accepted', async () => {
    await apply([...read('components/simulated/diskpool-crd.yaml'), ...crds()])
    await kubectl([
      'wait',
      '--for=condition=Established',
      '--timeout=60s',
      ...crds().map(crdName),
      'crd/diskpools.openebs.io',
    ])
  })
  t.teardown(async () => {
    await kubectl(['delete', '--ignore-not-found', '--timeout=60s', ...crds().map(crdName), 'crd/diskpools.openebs.io'])
  })

  await step('good policies are accepted', async (t) => {
    for (const file of yaml('examples')) {
      const { code, stderr } = await tryKubectl(['create', '--dry-run=server', '-f', join(MANIFESTS, 'examples', file)])
      t.equal(code, 0, `${file} ${stderr}`)
    }
  })

  await step('bad policies are refused, naming the field', async (t) => {
    for (const file of yaml('examples/refused')) {
      const path = join(MANIFESTS, 'examples/refused', file)
      const [, field = '', sentence = ''] = /^# Refused: (\S+): (.+)$/m.exec(readFileSync(path, 'utf8')) ?? []
      const { code, stderr } = await tryKubectl(['create', '--dry-run=server', '-f', path])
      t.not(code, 0, file)
      t.ok(stderr.includes(field) && stderr.includes(sentence), `${file}: ${stderr}`)
    }
  })

  const namespaces = [NAMESPACE, 'metacontroller', 'openebs', 'storage-tiering']
  const existing = await list('namespaces')
  const made = namespaces.filter((name) => !existing.has(name))
  await apply(made.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })))
  t.teardown(async () => {
    if (made.length > 0) await kubectl(['delete', 'namespaces', '--timeout=180s', ...made])
  })

  await step('every overlay is accepted', async (t) => {
    const served = (await kubectl(['api-resources', '--no-headers']))
      .split('\n')
      .map((line) => line.trim().split(/\s+/).at(-1))
    for (const overlay of folders('overlays')) {
      const objects = parseObjects(await kubectl(['kustomize', join(localManifests(), overlay)]))
      const known = objects.filter(({ kind }) => served.includes(kind))
      const others = new Set(objects.filter((object) => !known.includes(object)).map(({ kind }) => kind))
      const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: known })
      const { code, stderr } = await tryKubectl(
        ['apply', '--server-side', '--dry-run=server', '--force-conflicts', '-f', '-'],
        input,
      )
      t.equal(code, 0, `${overlay} ${stderr}`)
      if (others.size > 0)
        t.comment(`${overlay}: not known to this cluster, so not asked about: ${[...others].join(', ')}`)
    }
  })

  await apply([...read('operator/serviceaccount.yaml'), ...read('operator/rbac.yaml')])
  t.teardown(() => kubectl(['delete', '--ignore-not-found', '-f', join(MANIFESTS, 'operator/rbac.yaml')]))
  await apply(world)
  t.teardown(async () => {
    await kubectl([
      'delete',
      '--ignore-not-found',
      '--wait=false',
      '-f',
      join(MANIFESTS, 'components/simulated/world.yaml'),
    ])
  })

  const kubeconfigs = process.env['KUBECONFIG'] ?? join(process.env['HOME'] ?? '', '.kube/config')
  const pools = await diskPoolStatuses(kubeconfigs.split(':'))
  const worldText = readFileSync(join(MANIFESTS, 'components/simulated/world.yaml'), 'utf8')
  const live = await startLive({
    world: worldText,
    host: '127.0.0.1',
    mayastorPort: 0,
    prometheusPort: 0,
    pools,
    log: (line) => t.comment(line),
  })
  t.teardown(() => live.stop())
  const { truth } = live.cluster.mayastor
  const checker = new Checker(live.cluster.mayastor, {
    maxMoving: MAX_MIGRATIONS,
    cooldownMs: 30 * 60_000,
    tierOf: (pool) => truth.pools.get(pool)?.labels.get('tier'),
  })
  /** The tiers a volume really is on. */
  const tiers = (pv: string): string[] => {
    const volume = truth.volumes.get(pv.replace(/^pvc-/, ''))
    return [...new Set([...(volume?.replicas ?? [])].map(({ pool }) => pool.labels.get('tier') as string))].sort()
  }

  const kubeconfig = await operatorKubeconfig(folder)
  t.teardown(() => rmSync(kubeconfig))
  const hookPort = await freePort()
  const operator = new Operator({
    args: [
      `--hook-addr=${HOOK_HOST === '127.0.0.1' ? HOOK_HOST : '0.0.0.0'}:${hookPort}`,
      '--metrics-addr=127.0.0.1:0',
      '--health-addr=127.0.0.1:0',
      `--mayastor-url=${live.mayastorUrl}`,
      `--prometheus-url=${live.prometheusUrl}`,
      `--max-concurrent-migrations=${MAX_MIGRATIONS}`,
      `--namespace=${NAMESPACE}`,
    ],
    kubeconfig,
    log: join(folder, 'operator.log'),
  })
  await operator.start()
  t.teardown(() => operator.stop())

  const controllers = (await kubectl(['kustomize', join(MANIFESTS, 'controllers')])).replaceAll(
    SERVICE_URL,
    `http://${HOOK_HOST}:${hookPort}`,
  )
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], controllers)
  t.teardown(() => kubectl(['delete', '--ignore-not-found', '-f', '-'], controllers))
  // Policies and topologies before controllers: those remove the finalizers.
  t.teardown(async () => {
    await kubectl(['delete', 'storagepolicies', '--all', '--timeout=300s'])
    await kubectl(['delete', 'replicatopologies', '--all', '--timeout=300s'])
  })

  const pvs = world.filter(({ kind }) => kind === 'PersistentVolume').map(({ metadata }) => metadata.name as string)
  const topologies = () => list('replicatopologies')
  const migrations = async () =>
    [...(await topologies()).values()].flatMap(({ metadata, status }) =>
      status?.migration === undefined ? [] : [{ pv: metadata.name as string, ...status.migration }],
    )
  const phase = (what: string, minutes: number, pv: string, phases: readonly string[]) =>
    eventually(what, minutes, async () =>
      (await migrations()).find((migration) => migration.pv === pv && phases.includes(migration.phase)),
    )

  /** Volumes that were moving when their policy was deleted: finished or undone, and then left alone for a while. */
  const cut = new Set<string>()

  await step('in a dry run every volume is looked at and none is moved', async (t) => {
    await apply([policy(POLICY, { dryRun: true })])
    await eventually('a ReplicaTopology of each volume, observed', 3, async () => {
      const observed = [...(await topologies()).values()].filter(({ status }) => status?.volume !== undefined)
      return observed.length === pvs.length ? observed : undefined
    })
    const ready = await eventually('Ready', 2, async () => {
      const found = condition(await get('storagepolicy', POLICY), 'Ready')
      return found?.status === 'True' ? found : undefined
    })
    t.equal(ready.reason, 'Deciding')
    await eventually('decisions to move', 5, async () => {
      const reasons = [...(await topologies()).values()].map(({ spec }) => spec.decision.reason)
      return reasons.filter((reason) => reason === 'DryRun').length >= 4 ? reasons : undefined
    })
    const decision = async (claim: string) => (await get('replicatopology', claimed(claim))).spec.decision
    t.match(await decision('orders-db'), { tier: 'NVMe', reason: 'DryRun' })
    t.match(await decision('archive'), { tier: 'SATA', reason: 'DryRun' })
    t.match(await decision('auth-db'), { reason: 'OnWantedTier' })
    t.match(await decision('crm-db'), { reason: 'BetweenWatermarks' })
    t.match(await decision('new-import'), { reason: 'NoSeries' })
    t.strictSame(live.cluster.mayastor.writes, [], 'nothing was written to Mayastor')
  })

  await step('a second policy does not get the same volumes', async (t) => {
    await apply([policy('e2e-rival', { cooldownPeriod: '1h' })])
    const ready = await eventually('a refusal', 2, async () =>
      condition(await get('storagepolicy', 'e2e-rival'), 'Ready'),
    )
    t.match(ready, { status: 'False', reason: 'Conflict' })
    for (const { metadata, spec } of (await topologies()).values()) t.equal(spec.policy, POLICY, metadata.name)
    await kubectl(['delete', 'storagepolicy', 'e2e-rival', '--timeout=120s'])
    t.equal((await topologies()).size, pvs.length, 'its end takes nothing along')
  })

  await step('volumes move; the operator is killed in the midst of it and started again', async (t) => {
    await apply([policy(POLICY)])
    const first = await eventually('a replica that is being rebuilt', 5, async () =>
      (await migrations()).find(({ phase }) => phase === 'WaitingSync'),
    )
    await operator.kill()
    t.comment(`killed while ${first.pv} was in ${first.phase}`)
    await operator.start()
    const ended = await phase('that migration to end', 10, first.pv, ENDED)
    t.match(ended, { phase: 'Completed', id: first.id }, `${ended.reason}: ${ended.message}`)
    t.strictSame(tiers(first.pv), [ended.direction === 'Promote' ? 'nvme' : 'sata'])
    t.strictSame(checker.violations, [])
  })

  await step('a policy is deleted while a volume moves', async (t) => {
    const moving = await eventually('another replica that is being rebuilt', 10, async () =>
      (await migrations()).find(({ phase }) => phase === 'WaitingSync'),
    )
    const volume = truth.volumes.get(moving.pv.replace(/^pvc-/, ''))
    for (const { pv, phase } of await migrations()) if (!ENDED.includes(phase)) cut.add(pv)
    t.comment(`deleted while moving: ${[...cut].join(', ')}`)
    await kubectl(['delete', 'storagepolicy', POLICY, '--timeout=600s'])
    t.strictSame([...(await topologies()).keys()], [], 'its ReplicaTopologies are gone')
    t.ok(volume !== undefined && volume.replicas.size === volume.numReplicas, 'no replica too many')
    for (const pv of pvs) {
      const kept = truth.volumes.get(pv.replace(/^pvc-/, ''))
      t.ok(kept !== undefined && [...kept.replicas].every(({ synced }) => synced), `${pv} is whole`)
      t.equal((await get('pv', pv)).metadata.deletionTimestamp, undefined, `${pv} stays`)
    }
    checker.atRest(live.cluster.clock.now())
    t.strictSame(checker.violations, [])
  })

  await step('what is left can be taken up again', async (t) => {
    await apply([policy(POLICY)])
    for (const [claim, tier] of [
      ['orders-db', 'nvme'],
      ['search-index', 'nvme'],
      ['archive', 'sata'],
      ['wiki', 'sata'],
    ] as const) {
      const pv = claimed(claim)
      await eventually(`${claim} on ${tier}${cut.has(pv) ? ', or left alone for now' : ''}`, 15, async () => {
        if (tiers(pv).join() === tier) return true
        const reason = (await topologies()).get(pv)?.spec.decision.reason
        return cut.has(pv) && ['Cooldown', 'BackOff'].includes(reason) ? true : undefined
      })
      t.comment(`${claim} is on ${tiers(pv).join(' and ')}`)
    }
    for (const claim of ['crm-db', 'compliance-log', 'new-import', 'auth-db']) {
      const listed = world.find(({ metadata }) => metadata.name === claimed(claim))
      const at = [...(truth.volumes.get(listed.spec.csi.volumeHandle)?.replicas ?? [])]
        .map(({ pool }) => pool.id)
        .sort()
      const was = listed.metadata.annotations['simulated.storage.billyronks.io/pools'].split(' ').sort()
      t.strictSame(at, was, `${claim} stayed where it was`)
    }
    await eventually('the moves to end', 10, async () =>
      (await get('storagepolicy', POLICY)).status?.migrations.active === 0 ? true : undefined,
    )
    checker.atRest(live.cluster.clock.now())
    t.strictSame(checker.violations, [])
  })
})

const yaml = (folder: string) => readdirSync(join(MANIFESTS, folder)).filter((file) => file.endsWith('.yaml'))
const crds = () =>
  ['storagepolicies', 'replicatopologies'].flatMap((name) => read(`crds/${name}.storage.billyronks.io.yaml`))
const crdName = ({ metadata }: Manifest) => `crd/${metadata.name}`
