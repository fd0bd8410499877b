import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { API_VERSION, MAYASTOR_CSI_DRIVER } from '../../src/api/names.js'
import type { StoragePolicyStatus } from '../../src/api/storage-policy.js'
import { EmbeddedCluster, GIB } from '../../src/embedded/cluster.js'
import { runExplain } from '../../src/explain/command.js'
import type { Report } from '../../src/explain/print.js'
import { type ApiServer, apiServer } from '../api-server.js'
import { freePort } from '../ports.js'

t.setTimeout(120_000)
const MINUTE = 60_000
const uuid = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`

/** A real cluster's worth of objects: the embedded one after an hour, behind the API server's own paging. */
async function embedded(t: Test): Promise<ApiServer> {
  const c = new EmbeddedCluster({ mayastor: { rebuildBytesPerSecond: GIB / 64 } })
  t.teardown(() => c.stop())
  for (let i = 1; i <= 5; i++) {
    c.addNode(`node-${i}`)
    c.addPool({ name: `nvme-${i}`, node: `node-${i}`, capacityBytes: 200 * GIB, labels: { tier: 'nvme' } })
    c.addPool({ name: `sata-${i}`, node: `node-${i}`, capacityBytes: 400 * GIB, labels: { tier: 'sata' } })
  }
  const load = (read: number) => () => ({ read, write: 0 })
  const volume = { sizeBytes: 10 * GIB, storageClass: 'mayastor' }
  c.addVolume({ ...volume, uuid: uuid(1), pools: ['sata-1', 'sata-2'], load: load(9_000) })
  c.addVolume({ ...volume, uuid: uuid(2), pools: ['nvme-1'], load: load(9_000) })
  c.addVolume({ ...volume, uuid: uuid(3), pools: ['nvme-2'], load: load(1), heldByOwner: true, snapshots: 1 })
  c.addVolume({ ...volume, uuid: uuid(4), pools: ['sata-3'], load: () => undefined })
  c.addVolume({ ...volume, uuid: uuid(5), pools: ['sata-4'], load: load(9_000), storageClass: 'other' })
  c.addVolume({ ...volume, uuid: uuid(6), pools: ['nvme-3'], load: load(1), sizeBytes: GIB })
  c.addPolicy('default', { samplingWindow: '10m', maxUnknownPercent: 100, maxConcurrentMigrations: 1 })
  c.addPolicy('rival', {})
  await c.start(15 * MINUTE)
  c.startMetacontroller()
  // Volume 1 goes first, being hot; its first replica is being rebuilt when volume 6 wants to go down.
  const phase = (index: number) =>
    c.store.get<{ metadata: object; status?: { migration?: { phase: string } } }>({
      apiVersion: API_VERSION,
      kind: 'ReplicaTopology',
      name: `pvc-${uuid(index)}`,
    })?.status?.migration?.phase
  await c.run(60 * MINUTE, () => phase(1) === 'WaitingSync')
  await c.run(3 * MINUTE)
  await c.metacontroller.stop()
  return apiServer(t, { store: c.store, pageLimit: 2 })
}

async function run(t: Test, api: ApiServer, ...argv: string[]) {
  // Not the test's own folder, which has what the test puts there.
  const dir = mkdtempSync(join(tmpdir(), 'explain-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'config'), api.kubeconfig('default'))
  let out = ''
  let err = ''
  const code = await runExplain('explain', argv, {
    env: { KUBECONFIG: [`${dir}/none`, `${dir}/config`].join(delimiter) },
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
  })
  return { code, out, err }
}

t.test('a cluster at work', async (t) => {
  const api = await embedded(t)

  t.test('all volumes, as a table', async (t) => {
    const { code, out, err } = await run(t, api)
    t.equal(code, 0)
    t.equal(err, '')
    const lines = out.trimEnd().split('\n')
    t.match(
      lines[0],
      /^StoragePolicy rival is not ready \(Conflict\): storage class mayastor belongs to the older policy/,
    )
    t.match(lines[1], /^CLAIM +TIER +BELONGS +WHY +NEXT$/)
    t.match(lines.slice(2), [
      /^default\/data-\S+1 +Mixed +NVMe +Migrating +the replica on nvme-\d is rebuilt \(\d+ %\), then the one on sata-1 goes, then 1 more$/,
      /^default\/data-\S+2 +NVMe +NVMe +OnWantedTier +stays/,
      /^default\/data-\S+3 +NVMe +SATA +HeldByOwner +moves when the label storage.billyronks.io\/hold is taken off its claim$/,
      /^default\/data-\S+4 +SATA +- +NoSeries +stays until Prometheus has series/,
      /^default\/data-\S+6 +NVMe +SATA +WaitingForSlot +moves when one of the running migrations ends$/,
    ])
    t.equal(lines.length, 7)
    const lists = api.requests.filter(({ verb, resource }) => verb === 'list' && resource === 'replicatopologies')
    t.equal(lists.length, 3, 'five of them, two a page')
    t.ok(
      api.requests.every(({ verb }) => verb === 'list' || verb === 'get'),
      'nothing is written',
    )
  })

  t.test('all volumes, wide', async (t) => {
    const { out } = await run(t, api, '-o', 'wide')
    t.match(out, /HELD BY +MIGRATION +NEXT\n/)
    t.match(out, /pvc-\S+3 +default +NVMe +nvme-2 +SATA +HeldByOwner +HeldByOwner,Snapshots +- +moves/)
    t.match(out, /WaitingSync \(Rebuilding\)/)
  })

  t.test('json and yaml hold the same', async (t) => {
    const report = JSON.parse((await run(t, api, '-o', 'json')).out) as Report
    t.strictSame(parse((await run(t, api, '-o', 'yaml')).out), report)
    t.strictSame(
      report.volumes.map(({ volume }) => volume),
      [1, 2, 3, 4, 6].map((index) => `pvc-${uuid(index)}`),
    )
    t.match(report.policies, [
      { name: 'default', phase: 'Active', ready: true },
      { name: 'rival', ready: false, reason: 'Conflict' },
    ])
    t.match(report.volumes[2], {
      claim: { namespace: 'default', name: `data-${uuid(3)}` },
      where: { tier: 'NVMe', state: 'Online', replicas: [{ pool: 'nvme-2', node: 'node-2', synced: true }] },
      belongs: { tier: 'SATA', reason: 'HeldByOwner' },
      holds: [{ reason: 'HeldByOwner' }, { reason: 'Snapshots' }],
    })
  })

  t.test('one volume, by each of its names', async (t) => {
    const names = [`default/data-${uuid(3)}`, `data-${uuid(3)}`, `pvc-${uuid(3)}`, uuid(3)]
    const outputs = await Promise.all(names.map((name) => run(t, api, name)))
    const { out } = outputs[0] ?? { out: '' }
    for (const output of outputs) t.strictSame(output, { code: 0, out, err: '' })
    t.match(out, /^Claim +default\/data-\S+3\nVolume +pvc-\S+3 \(Mayastor \S+3\)\nPolicy +default\n/)
    t.match(out, /\nWhere +NVMe, Online\n +nvme-2 on node-2: Online, synced\n/)
    t.match(out, /\nBelongs +SATA: IOPS below 500 over 10m; claim \S+ asks to stay \(HeldByOwner\)\n/)
    t.match(out, /\nHeld back +HeldByOwner: claim default\/\S+ asks to stay\n +Snapshots: /)
    t.match(out, /\nNext +moves when the label .*\nWhen +looked at again within 5 minutes\n$/)
    const moving = await run(t, api, uuid(1))
    t.match(moving.out, /\nMigration +\S+-1, Promote: WaitingSync \(Rebuilding\)\n +.*; 0 of 2 replicas moved\n/)
    t.equal(
      (await run(t, api, '-n', 'elsewhere', `data-${uuid(3)}`)).code,
      3,
      'in another namespace there is no such claim',
    )
    t.equal((await run(t, api, '-n', 'default', `data-${uuid(3)}`)).code, 0)
  })

  t.test('volumes of one namespace', async (t) => {
    t.equal((await run(t, api, '-n', 'default')).out.split('\n').length, 8)
    const { code, err } = await run(t, api, '-n', 'elsewhere')
    t.equal(code, 3)
    t.equal(err, 'error: no volume of a claim in namespace elsewhere is managed\n')
    t.strictSame(JSON.parse((await run(t, api, '-n', 'elsewhere', '-o', 'json')).out).volumes, [])
  })

  t.test('what is not there to explain', async (t) => {
    const { store } = api
    const claim = (name: string, volumeName?: string) =>
      store.seed({
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { namespace: 'default', name },
        spec: { storageClassName: 'x', ...(volumeName && { volumeName }) },
      })
    const volume = (name: string, driver: string, storageClassName: string) =>
      store.seed({
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name },
        spec: { storageClassName, csi: { driver, volumeHandle: name } },
      })
    claim('unbound')
    claim('foreign', 'pv-foreign')
    volume('pv-foreign', 'ebs.csi.aws.com', 'mayastor')
    claim('unnamed', 'pv-unnamed')
    volume('pv-unnamed', MAYASTOR_CSI_DRIVER, 'unnamed-class')
    claim('new', 'pv-new')
    volume('pv-new', MAYASTOR_CSI_DRIVER, 'mayastor')
    claim('dangling', 'pv-gone')
    const cases: Record<string, string> = {
      'default/none': 'there is no claim default/none, nor a volume of that name',
      none: 'there is no claim default/none, nor a volume of that name',
      'a/b/c': '"a/b/c" is no name of a claim or volume',
      unbound: 'claim default/unbound is not bound to a volume yet',
      foreign:
        'claim default/foreign is bound to pv-foreign, which is not a Mayastor volume but one of ebs.csi.aws.com',
      unnamed: 'claim default/unnamed is bound to pv-unnamed, whose storage class unnamed-class no StoragePolicy names',
      new:
        'claim default/new is bound to pv-new, whose storage class mayastor belongs to StoragePolicy rival, which is not ' +
        'ready: storage class mayastor belongs to the older policy default',
      dangling: 'claim default/dangling is bound to pv-gone, which no StoragePolicy manages',
    }
    for (const [name, message] of Object.entries(cases)) {
      t.strictSame(await run(t, api, name), { code: 3, out: '', err: `error: ${message}\n` }, name)
    }
  })

  t.test('a list that takes so long that the API server forgets it', async (t) => {
    let lists = 0
    api.instead = ({ verb, resource }) =>
      verb === 'list' && resource === 'replicatopologies' && ++lists === 2 ? 410 : undefined
    const { code, out } = await run(t, api, '-o', 'json')
    t.equal(code, 0)
    t.equal(JSON.parse(out).volumes.length, 5, 'begun again, each volume once')
    api.instead = ({ resource }) => (resource === 'replicatopologies' ? 410 : undefined)
    t.equal((await run(t, api)).code, 1, 'but not for ever')
    api.instead = () => undefined
  })

  t.test('what may not be read', async (t) => {
    api.forbids = ({ resource }) => resource === 'replicatopologies'
    t.strictSame(await run(t, api, uuid(3)), {
      code: 1,
      out: '',
      err:
        `error: replicatopologies "${uuid(3)}" is forbidden: User "me" cannot get resource "replicatopologies" ` +
        'in API group "storage.billyronks.io" at the cluster scope\n',
    })
    t.equal((await run(t, api)).code, 1)
    api.forbids = ({ resource }) => resource !== 'replicatopologies'
    t.equal((await run(t, api, uuid(3))).code, 0, 'a volume is explained without its claim and policy')
    t.match(await run(t, api, 'data'), { code: 1, err: /persistentvolumeclaims "data" is forbidden/ })
    api.forbids = ({ resource }) => resource === 'persistentvolumes'
    t.match(await run(t, api, 'foreign'), { code: 3, err: /bound to pv-foreign, which no StoragePolicy manages/ })
    api.forbids = () => false
  })

  t.test('as a program of its own', async (t) => {
    const dir = t.testdir({ config: api.kubeconfig() })
    const file = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))
    const plugin = `${dir}/kubectl-storage_tier`
    symlinkSync(file('explain/kubectl-plugin.js'), plugin)
    chmodSync(plugin, 0o755)
    const programs = [
      [process.execPath, file('main.js'), 'explain', uuid(3), '-ojson'],
      [plugin, uuid(3), '-ojson'],
    ]
    const { out } = await run(t, api, uuid(3), '-ojson')
    for (const [command = '', ...argv] of programs) {
      const child = spawn(command, argv, { env: { PATH: process.env['PATH'] ?? '', KUBECONFIG: `${dir}/config` } })
      let text = ''
      child.stdout.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      const [code] = await once(child, 'close')
      t.equal(code, 0)
      t.equal(text, out)
    }
  })
})

t.test('clusters and kubeconfigs that cannot be used', async (t) => {
  const api = await apiServer(t, { token: 'right' })
  const crds = 'CustomResourceDefinitions are not installed'
  t.match(await run(t, api), { code: 1, out: '', err: new RegExp(`knows no storage.billyronks.io: .*${crds}`) })
  t.match(await run(t, api, 'data'), { code: 1, err: new RegExp(crds) }, 'for one volume as well')
  const dir = t.testdir({
    config: api.kubeconfig(),
    wrong: api.kubeconfig().replace('right', 'wrong'),
    away: api.kubeconfig().replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${await freePort()}`),
    broken: '{"clusters": [',
    empty: '{"apiVersion":"v1","kind":"Config"}',
  })
  const cases: [argv: string[], code: number, message: RegExp][] = [
    [[`--kubeconfig=${dir}/wrong`], 1, /127\.0\.0\.1:\d+ does not accept the credentials of this context/],
    [[`--kubeconfig=${dir}/away`], 1, /cannot read from the API server http:\/\/127.0.0.1:\d+: .*ECONNREFUSED/],
    [[`--kubeconfig=${dir}/broken`], 1, /the kubeconfig cannot be used: /],
    [[`--kubeconfig=${dir}/empty`], 1, /the kubeconfig has no current context: see --context/],
    [[`--kubeconfig=${dir}/none`], 1, /there is no kubeconfig at \S+none: see --kubeconfig/],
    [['--context=other'], 1, /the kubeconfig has no context other, only test/],
    [['--context=test'], 1, new RegExp(crds)],
    [['-o', 'xml'], 2, /Allowed choices are table, wide, json, yaml/],
    [['a', 'b'], 2, /too many arguments/],
    [['--nonsense'], 2, /unknown option '--nonsense'/],
  ]
  for (const [argv, code, message] of cases) {
    const outcome = await run(t, api, ...argv)
    t.match(outcome, { code, out: '', err: message }, argv.join(' '))
    t.equal(outcome.err.trimEnd().split('\n').length, 1, 'one line')
  }
  const help = await run(t, api, '--help')
  t.match(help, { code: 0, out: /^Usage: explain \[options\] \[namespace\/claim \| claim \| volume\]\n/, err: '' })
})

t.test('a cluster where nothing is managed', async (t) => {
  const c = new EmbeddedCluster()
  const api = await apiServer(t, { store: c.store })
  const says = async (message: string) =>
    t.strictSame(await run(t, api), { code: 3, out: '', err: `error: no volume is managed: ${message}\n` })
  await says('there is no StoragePolicy')
  c.addPolicy('gold', {})
  await says(
    'StoragePolicy gold is not ready (NoStatus): nothing has been decided yet: is Metacontroller running, and does it ' +
      'reach the operator?',
  )
  const [policy] = c.store.list(API_VERSION, 'StoragePolicy')
  const lastTransitionTime = '2027-01-01T00:00:00Z'
  const status: StoragePolicyStatus = {
    phase: 'Pending',
    volumes: { total: 0, nvme: 0, sata: 0, mixed: 0, other: 0 },
    reasons: [],
    migrations: { active: 0, succeeded: 0, failed: 0, aborted: 0 },
    history: [],
    conditions: [{ type: 'Ready', status: 'True', reason: 'Deciding', message: 'm', lastTransitionTime }],
  }
  c.store.replaceStatus({ ...policy, status })
  await says("none of Mayastor's is of a storage class that a StoragePolicy names")
})
