import { isObject } from './json.js'
import { groupOf } from './objects.js'
import type { Schema } from './schema.js'

/** One kind the API server serves. */
export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  /** Plural, as in URLs and in Metacontroller's rules. */
  readonly resource: string
  readonly namespaced: boolean
  /** With it, ordinary writes leave status alone and only status writes change it (default true). */
  readonly statusSubresource?: boolean
  /** Whether metadata.generation is kept (default true: custom resources). */
  readonly generation?: boolean
  readonly schema?: Schema
}

const builtIn = (apiVersion: string, kind: string, namespaced: boolean, statusSubresource: boolean): Resource => ({
  apiVersion,
  kind,
  resource: plural(kind),
  namespaced,
  statusSubresource,
  generation: false,
})

const BUILT_IN: readonly Resource[] = [
  builtIn('v1', 'PersistentVolume', false, true),
  builtIn('v1', 'PersistentVolumeClaim', true, true),
  builtIn('v1', 'Namespace', false, true),
  builtIn('v1', 'Node', false, true),
  builtIn('v1', 'Pod', true, true),
  builtIn('v1', 'Service', true, true),
  builtIn('v1', 'ConfigMap', true, false),
  builtIn('v1', 'Secret', true, false),
  builtIn('v1', 'Event', true, false),
  builtIn('storage.k8s.io/v1', 'StorageClass', false, false),
  builtIn('coordination.k8s.io/v1', 'Lease', true, false),
]

/** What the API server serves: built-in kinds, those of CRDs, and kinds that appeared by being written. */
export class Resources {
  readonly #byResource = new Map<string, Resource>()
  readonly #byKind = new Map<string, Resource>()

  constructor(extra: readonly Resource[], crds: readonly object[]) {
    for (const resource of [...BUILT_IN, ...extra, ...crds.flatMap(resourcesOf)]) this.add(resource)
  }

  add(resource: Resource): void {
    this.#byResource.set(`${resource.apiVersion} ${resource.resource}`, resource)
    this.#byKind.set(`${resource.apiVersion} ${resource.kind}`, resource)
  }

  remove(apiVersion: string, resource: string): void {
    const found = this.find(apiVersion, resource)
    if (found === undefined) return
    this.#byResource.delete(`${apiVersion} ${resource}`)
    this.#byKind.delete(`${apiVersion} ${found.kind}`)
  }

  find(apiVersion: string, resource: string): Resource | undefined {
    return this.#byResource.get(`${apiVersion} ${resource}`)
  }

  ofKind(apiVersion: string, kind: string): Resource | undefined {
    return this.#byKind.get(`${apiVersion} ${kind}`)
  }

  /** The resource of a kind, taking up a custom one nobody declared under the usual plural. */
  declare(apiVersion: string, kind: string, namespaced: boolean): Resource {
    const known = this.ofKind(apiVersion, kind)
    if (known !== undefined) return known
    const resource = { apiVersion, kind, resource: plural(kind), namespaced }
    this.add(resource)
    return resource
  }
}

function plural(kind: string): string {
  const word = kind.toLowerCase()
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`
  return /(s|x|ch|sh)$/.test(word) ? `${word}es` : `${word}s`
}

/** The kinds a CustomResourceDefinition (v1) manifest serves. */
export function resourcesOf(crd: object): Resource[] {
  const spec = (crd as { spec?: unknown }).spec
  if (!isObject(spec) || !isObject(spec['names']) || !Array.isArray(spec['versions'])) {
    throw new Error('not a CustomResourceDefinition: spec.names and spec.versions are needed')
  }
  const names = spec['names'] as { kind: string; plural: string }
  const versions = spec['versions'] as {
    name: string
    served: boolean
    schema?: { openAPIV3Schema?: Schema }
    subresources?: { status?: object }
  }[]
  return versions
    .filter((version) => version.served)
    .map((version) => ({
      apiVersion: `${spec['group']}/${version.name}`,
      kind: names.kind,
      resource: names.plural,
      namespaced: spec['scope'] === 'Namespaced',
      statusSubresource: version.subresources?.status !== undefined,
      ...(version.schema?.openAPIV3Schema === undefined ? {} : { schema: version.schema.openAPIV3Schema }),
    }))
}

/** Sort order of kinds in one sync: group, version, kind. */
export function compareKinds(a: readonly [string, string], b: readonly [string, string]): number {
  const parts = ([apiVersion, kind]: readonly [string, string]) => {
    const group = groupOf(apiVersion)
    return [group, apiVersion.slice(group === '' ? 0 : group.length + 1), kind].join('\u0000')
  }
  const left = parts(a)
  const right = parts(b)
  return left < right ? -1 : left > right ? 1 : 0
}
