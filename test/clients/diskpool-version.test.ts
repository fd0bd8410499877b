import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import {
  type Discovery,
  type DiskPoolDiscovery,
  discoverDiskPools,
  diskPoolVersion,
  kubeDiscovery,
} from '../../src/clients/diskpool-version.js'
import { lazyKubeConfig } from '../../src/clients/kubernetes.js'
import { systemClock } from '../../src/clock.js'
import { manualClock } from '../manual-clock.js'

/** Versions of the group and the resources of each; undefined: the API server cannot be asked. */
const discovery = (served: Readonly<Record<string, readonly string[]>> | undefined): Discovery => ({
  versions: async () => {
    if (served === undefined) throw new Error('unreachable')
    return Object.keys(served)
  },
  resources: async (_group, version) => served?.[version] ?? [],
})

t.test('which version', async (t) => {
  const pools = ['diskpools', 'diskpools/status']
  const cases: [string, Parameters<typeof discovery>[0], DiskPoolDiscovery][] = [
    ['the only one', { v1beta2: pools }, 'openebs.io/v1beta2'],
    ['the newest known', { v1alpha1: pools, v1beta1: pools, v1beta3: pools, v1beta2: pools }, 'openebs.io/v1beta3'],
    ['the newest with DiskPools', { v1beta3: ['others'], v1beta1: pools }, 'openebs.io/v1beta1'],
    ['one of the future', { v1: pools }, 'openebs.io/v1'],
    ['a known one before one of the future', { v1: pools, v1beta3: pools }, 'openebs.io/v1beta3'],
    ['a group without DiskPools', { v1: ['others'] }, 'absent'],
    ['no group', {}, 'absent'],
    ['no API server', undefined, 'unreachable'],
  ]
  for (const [name, served, expected] of cases) t.equal(await discoverDiskPools(discovery(served)), expected, name)
})

t.test('asked again until it is known, and now and then after', async (t) => {
  const { clock, pass, timers } = manualClock()
  const results: DiskPoolDiscovery[] = [
    'unreachable',
    'absent',
    'openebs.io/v1beta2',
    'unreachable',
    'openebs.io/v1beta3',
    'absent',
  ]
  const seen: unknown[] = []
  let asked = 0
  const version = diskPoolVersion({
    fixed: undefined,
    discover: async () => {
      const result = results[asked++]
      if (result === undefined) throw new Error('asked too often')
      return result
    },
    clock,
    onResult: (result, changed) => seen.push([result, changed]),
  })
  version.start()
  version.start()
  await pass(0)
  const expected: [number, number, string | undefined][] = [
    [0, 1, 'openebs.io/v1beta3'],
    [29_999, 1, 'openebs.io/v1beta3'],
    [1, 2, undefined],
    [30_000, 3, 'openebs.io/v1beta2'],
    [29_999, 3, 'openebs.io/v1beta2'],
    [1, 4, 'openebs.io/v1beta2'],
    [30_000, 5, 'openebs.io/v1beta3'],
    [30_000, 6, undefined],
  ]
  for (const [ms, times, current] of expected) {
    await pass(ms)
    t.equal(asked, times)
    t.equal(await version.current(), current)
  }
  t.strictSame(seen[0], ['unreachable', true])
  version.stop()
  t.equal(timers(), 0)
})

t.test('the first answer is waited for, 2 s at most', async (t) => {
  const { clock, pass } = manualClock()
  let answer = (_: DiskPoolDiscovery) => {}
  const discover = () =>
    new Promise<DiskPoolDiscovery>((resolve) => {
      answer = resolve
    })
  const version = diskPoolVersion({ fixed: undefined, discover, clock })
  version.start()
  let current: string | undefined | 'waiting' = 'waiting'
  const ask = () => {
    current = 'waiting'
    void version.current().then((value) => {
      current = value
    })
  }
  ask()
  await pass(1_999)
  t.equal(current, 'waiting')
  await pass(1)
  t.equal(current, 'openebs.io/v1beta3', 'the version of current Mayastor')
  ask()
  await pass(100)
  answer('openebs.io/v1beta1')
  await pass(0)
  t.equal(current, 'openebs.io/v1beta1')
})

t.test('a configured version is not discovered', async (t) => {
  const discover = async () => t.fail('asked') as never
  const version = diskPoolVersion({ fixed: 'openebs.io/v1beta1', discover, clock: systemClock })
  version.start()
  t.equal(await version.current(), 'openebs.io/v1beta1')
  version.stop()
})

t.test('over HTTP, through a kubeconfig', async (t) => {
  let groups: unknown[] = []
  const server = createServer((request, response) => {
    const answers: Record<string, unknown> = {
      '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups },
      '/apis/openebs.io/v1beta2': {
        kind: 'APIResourceList',
        groupVersion: 'openebs.io/v1beta2',
        resources: [{ name: 'diskpools', singularName: '', namespaced: true, kind: 'DiskPool', verbs: ['get'] }],
      },
    }
    const answer = answers[request.url ?? '']
    response.writeHead(answer === undefined ? 404 : 200, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(answer ?? { kind: 'Status', code: 404 }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    })
  const { port } = server.address() as AddressInfo
  const config = (name: string, url: string) =>
    JSON.stringify({
      clusters: [{ name, cluster: { server: url, 'insecure-skip-tls-verify': true } }],
      users: [{ name, user: {} }],
      contexts: [{ name, context: { cluster: name, user: name } }],
      'current-context': name,
    })
  const dir = t.testdir({
    config: config('first', `http://127.0.0.1:${port}`),
    other: config('second', 'http://127.0.0.1:1'),
    broken: '{',
    token: 't',
  })
  const discover = (kubeconfigs: string[]) =>
    discoverDiskPools(kubeDiscovery(lazyKubeConfig(kubeconfigs, `${dir}/nothing`)))
  const files = [`${dir}/missing`, `${dir}/config`, `${dir}/other`]
  t.equal(await discover(files), 'absent')
  const versions = ['v1beta3', 'v1beta2'].map((version) => ({ groupVersion: `openebs.io/${version}`, version }))
  groups = [
    { name: 'apps', versions: [] },
    { name: 'openebs.io', versions, preferredVersion: versions[0] },
  ]
  t.equal(await discover(files), 'openebs.io/v1beta2', 'a version that is gone meanwhile is passed over')
  t.equal(await discover([`${dir}/broken`]), 'unreachable')
  t.equal(await discover([]), 'unreachable', 'neither kubeconfig nor service account')
  t.equal(await lazyKubeConfig([], `${dir}/nothing`)(), undefined)
  t.equal((await lazyKubeConfig([], `${dir}/token`)())?.getCurrentContext(), 'inClusterContext')
  const twice = lazyKubeConfig(files)
  t.equal(await twice(), await twice(), 'loaded once')
  await close()
  t.equal(await discover(files), 'unreachable')
})
