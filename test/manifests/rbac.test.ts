import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { discoverDiskPools, kubeDiscovery } from '../../src/clients/diskpool-version.js'
import { kubernetesEvents } from '../../src/clients/events.js'
import { kubernetesLeases } from '../../src/clients/leases.js'
import { systemClock } from '../../src/clock.js'
import { customizePolicy } from '../../src/decide/hook.js'
import { type Manifest, named, noKustomize, ofKind, render } from './render.js'

const OPERATOR = 'smart-storage-operator'
const NAMESPACE = 'smart-storage-system'
const VERBS: Readonly<Record<string, string>> = { GET: 'get', POST: 'create', PUT: 'update', DELETE: 'delete' }

/** A request, in the words of RBAC. */
function asked({ method = '', url = '' }: IncomingMessage): string {
  const [path = '', query = ''] = url.split('?')
  const namespaced = /^\/apis?\/(?:([a-z0-9.]+)\/)?v[a-z0-9]+\/namespaces\/([^/]+)\/([a-z]+)(\/[^/]+)?$/.exec(path)
  if (namespaced === null) return `${VERBS[method]} ${path}`
  const [, group = '', namespace, resource, name] = namespaced
  const verb = method === 'GET' && name === undefined ? (query.includes('watch=') ? 'watch' : 'list') : VERBS[method]
  return `${verb} ${[resource, group].filter(Boolean).join('.')} in ${namespace}`
}

/** Runs all that the operator does with the Kubernetes API, and tells what it asked for. */
async function used(t: Test): Promise<Set<string>> {
  const requests = new Set<string>()
  const server = createServer((request, response) => {
    requests.add(asked(request))
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(answer(request.url ?? '')))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const config = new KubeConfig()
  config.loadFromOptions({
    clusters: [
      { name: 'c', skipTLSVerify: true, server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    ],
    users: [{ name: 'u' }],
    contexts: [{ name: 'c', cluster: 'c', user: 'u' }],
    currentContext: 'c',
  })
  t.equal(await discoverDiskPools(kubeDiscovery(async () => config)), 'openebs.io/v1beta3')
  const leases = await kubernetesLeases({ config, namespace: NAMESPACE, clock: systemClock })
  const record = { name: 'fence', holder: 'me', renewedAt: 0, data: '' }
  await leases.get('fence')
  await leases.list()
  await leases.create(record)
  await leases.replace(record, '1')
  await leases.remove('fence', '1')
  const events = await kubernetesEvents({ config, clock: systemClock })
  const regarding = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'apps', name: 'data' }
  await events.write({ regarding, type: 'Normal', reason: 'MigrationStarted', message: 'a sentence', key: '1' })
  return requests
}

function answer(url: string): object {
  const versions = [{ groupVersion: 'openebs.io/v1beta3', version: 'v1beta3' }]
  if (/^\/apis\/?$/.test(url)) {
    const group = { name: 'openebs.io', versions, preferredVersion: versions[0] }
    return { kind: 'APIGroupList', groups: [group] }
  }
  if (url.startsWith('/apis/openebs.io/')) {
    const resource = { name: 'diskpools', singularName: '', namespaced: true, kind: 'DiskPool', verbs: [] }
    return { kind: 'APIResourceList', groupVersion: 'openebs.io/v1beta3', resources: [resource] }
  }
  return { kind: 'Lease', metadata: { name: 'fence' }, spec: {}, items: [] }
}

/** What the roles grant that are bound to the operator's account, one verb and resource a line. */
function granted(objects: readonly Manifest[]): Set<string> {
  const lines = new Set<string>()
  for (const binding of [...ofKind(objects, 'RoleBinding'), ...ofKind(objects, 'ClusterRoleBinding')]) {
    if (!binding.subjects.some(({ name }: Manifest) => name === OPERATOR)) continue
    const where = binding.kind === 'RoleBinding' ? binding.metadata.namespace : 'any namespace'
    for (const rule of named(objects, binding.roleRef.kind, binding.roleRef.name).rules) {
      for (const verb of rule.verbs) {
        for (const url of rule.nonResourceURLs ?? []) lines.add(`${verb} ${url}`)
        for (const group of rule.apiGroups ?? []) {
          for (const resource of rule.resources) {
            lines.add(`${verb} ${[resource, group].filter(Boolean).join('.')} in ${where}`)
          }
        }
      }
    }
  }
  return lines
}

const covers = (grant: string, request: string) =>
  grant === request ||
  grant.replace('any namespace', '') === request.replace(/ in \S+$/, ' in ') ||
  (grant.endsWith('/*') && request.startsWith(grant.slice(0, -1)))

t.test('the operator may do what it does, and nothing else', { skip: noKustomize }, async (t) => {
  const grants = granted(render('overlays/default'))
  const requests = await used(t)
  t.ok(requests.size >= 8, [...requests].join('; '))
  for (const request of requests)
    t.ok(
      [...grants].some((grant) => covers(grant, request)),
      `granted: ${request}`,
    )
  const unused = [...grants].filter((grant) => ![...requests].some((request) => covers(grant, request)))
  // The API server answers both spellings of the list of groups, and a client may ask for either; so for a group.
  const spellings = ['get /apis', 'get /apis/', 'get /apis/openebs.io']
  t.strictSame(
    unused.filter((grant) => !spellings.includes(grant)),
    [],
  )
  for (const grant of grants) t.notMatch(grant, /\*\.| secrets|^(escalate|bind|impersonate)/)
})

t.test('nothing of the product watches, or speaks to Kubernetes beside src/clients', async (t) => {
  const files = (folder: string): string[] =>
    readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
      .map((entry) => join(entry.parentPath, entry.name))
  const users = [...files('src'), ...files('hooks')].filter((file) =>
    /import\(?\s*'@kubernetes|from '@kubernetes/.test(readFileSync(file, 'utf8').replace(/import type .*/g, '')),
  )
  // The simulated Mayastor's operator has an account of its own, and explain runs as whoever asks.
  t.strictSame(
    users.filter((file) => !file.startsWith('src/clients/')),
    ['src/embedded/live.ts', 'src/explain/cluster.ts'],
  )
})

t.test('Metacontroller may do what the controllers need, and no more', { skip: noKustomize }, async (t) => {
  const objects = render('overlays/metacontroller')
  const lines = new Map<string, string[]>()
  const add = (resource: string, ...verbs: readonly string[]) =>
    lines.set(resource, [...new Set([...(lines.get(resource) ?? []), ...verbs])].sort())
  const read = ['get', 'list', 'watch']
  const key = (apiVersion: string, resource: string) =>
    [resource, apiVersion.includes('/') ? apiVersion.split('/')[0] : ''].filter(Boolean).join('.')
  for (const { spec } of ofKind(objects, 'CompositeController')) {
    const parent = key(spec.parentResource.apiVersion, spec.parentResource.resource)
    add(parent, ...read, 'update')
    add(parent.replace('.', '/status.'), 'update')
    for (const child of spec.childResources ?? []) {
      add(key(child.apiVersion, child.resource), ...read, 'create', 'update', 'delete')
      add(parent.replace('.', '/finalizers.'), 'update')
    }
  }
  const { relatedResources } = customizePolicy({ parent: {} }, 'openebs.io/v1beta3')
  for (const { apiVersion, resource } of relatedResources ?? []) add(key(apiVersion, resource), ...read)

  const role = named(objects, 'ClusterRole', 'smart-storage-operator-metacontroller')
  const given = new Map<string, string[]>()
  for (const { apiGroups, resources, verbs } of role.rules) {
    for (const resource of resources) given.set([resource, apiGroups[0]].filter(Boolean).join('.'), [...verbs].sort())
  }
  t.strictSame(Object.fromEntries(given), Object.fromEntries(lines))

  t.test('by a label that its own role gathers', async (t) => {
    const { aggregationRule, rules } = named(objects, 'ClusterRole', 'metacontroller')
    t.equal(rules, undefined, 'the API server fills them in')
    for (const name of ['smart-storage-operator-metacontroller', 'metacontroller-core']) {
      const { labels } = named(objects, 'ClusterRole', name).metadata
      t.match(labels, aggregationRule.clusterRoleSelectors[0].matchLabels, name)
    }
  })
})
