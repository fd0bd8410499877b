import type { Clock } from '../../clock.js'
import type { InformerCache } from './cache.js'
import type { RelatedRule } from './decode.js'
import { type KubeObject, kindKey } from './objects.js'
import type { Resource } from './resources.js'
import { compileSelector } from './selector.js'
import type { ObjectStore } from './store.js'

const RULES_TTL_MS = 20 * 60_000

/** The informer of a related kind was only just opened: tried again, without an event. */
export class NotSyncedError extends Error {}

/** The related rules of one controller's parents, and the objects they select. */
export class Customize {
  readonly #clock: Clock
  readonly #store: ObjectStore
  readonly #cache: InformerCache
  readonly #ask: (parent: KubeObject) => Promise<RelatedRule[]>
  readonly #onOpen: (resource: Resource) => void
  readonly #rules = new Map<string, { rules: RelatedRule[]; until: number }>()
  readonly #watched = new Set<string>()

  constructor(
    clock: Clock,
    store: ObjectStore,
    cache: InformerCache,
    ask: (parent: KubeObject) => Promise<RelatedRule[]>,
    onOpen: (resource: Resource) => void,
  ) {
    this.#clock = clock
    this.#store = store
    this.#cache = cache
    this.#ask = ask
    this.#onOpen = onOpen
  }

  /** Rules kept from an earlier answer for this very generation of the parent. */
  known(parent: KubeObject): RelatedRule[] | undefined {
    const kept = this.#rules.get(this.#key(parent))
    return kept !== undefined && kept.until > this.#clock.now() ? kept.rules : undefined
  }

  async rules(parent: KubeObject): Promise<RelatedRule[]> {
    const known = this.known(parent)
    if (known !== undefined) return known
    const rules = await this.#ask(parent)
    this.#rules.set(this.#key(parent), { rules, until: this.#clock.now() + RULES_TTL_MS })
    return rules
  }

  /** What the rules select, in groups by kind; a group exists for each rule. */
  async related(parent: KubeObject): Promise<{ resource: Resource; objects: KubeObject[] }[]> {
    const groups = new Map<string, { resource: Resource; objects: Set<KubeObject> }>()
    for (const rule of await this.rules(parent)) {
      const resource = this.#store.resource(rule.apiVersion ?? '', rule.resource ?? '')
      if (resource === undefined) {
        throw new Error(`discovery: can't find resource ${rule.resource} in apiVersion ${rule.apiVersion}`)
      }
      const id = kindKey(resource.apiVersion, resource.kind)
      if (!this.#watched.has(id)) {
        this.#watched.add(id)
        this.#onOpen(resource)
      }
      if (!this.#cache.synced(resource)) throw new NotSyncedError('related informer not synced yet')
      const matches = this.#matcher(rule, resource)
      const group = groups.get(id) ?? { resource, objects: new Set() }
      for (const object of this.#cache.list(resource)) if (matches(object)) group.objects.add(object)
      groups.set(id, group)
    }
    return [...groups.values()].map(({ resource, objects }) => ({ resource, objects: [...objects] }))
  }

  /** Whether one of the rules selects one of the objects. A rule that cannot be evaluated selects nothing here. */
  selects(rules: readonly RelatedRule[], objects: readonly KubeObject[]): boolean {
    return rules.some((rule) => {
      const resource = this.#store.resource(rule.apiVersion ?? '', rule.resource ?? '')
      if (resource === undefined) return false
      const candidates = objects.filter(
        (object) => object.apiVersion === resource.apiVersion && object.kind === resource.kind,
      )
      if (candidates.length === 0) return false
      try {
        return candidates.some(this.#matcher(rule, resource))
      } catch {
        return false
      }
    })
  }

  #matcher(rule: RelatedRule, resource: Resource): (object: KubeObject) => boolean {
    const names = new Set(rule.names ?? [])
    const namespace = rule.namespace ?? ''
    const bySelector = (rule.labelSelector ?? null) !== null
    const byNamespaceSelector = (rule.namespaceSelector ?? null) !== null
    if (names.size > 0 && (bySelector || byNamespaceSelector)) {
      throw new Error('related rule cannot have both names and labelSelector/namespaceSelector specified')
    }
    if (namespace !== '' && byNamespaceSelector) {
      throw new Error('related rule cannot have both namespace and namespaceSelector specified')
    }
    if (byNamespaceSelector && !resource.namespaced) {
      throw new Error('namespaceSelector is only supported for namespaced related resources')
    }
    const labelled = compileSelector(rule.labelSelector)
    const inNamespaces = byNamespaceSelector ? this.#namespaces(compileSelector(rule.namespaceSelector)) : undefined
    return (object) => {
      const own = object.metadata.namespace ?? ''
      if (names.size > 0 && !names.has(object.metadata.name)) return false
      if (namespace !== '' && resource.namespaced && own !== namespace) return false
      if (inNamespaces !== undefined && !inNamespaces.has(own)) return false
      return labelled(object.metadata.labels)
    }
  }

  #namespaces(matches: (labels: Readonly<Record<string, string>> | undefined) => boolean): Set<string> {
    const namespaces = this.#store.resource('v1', 'namespaces') as Resource
    return new Set(
      this.#cache
        .list(namespaces)
        .filter((namespace) => matches(namespace.metadata.labels))
        .map((namespace) => namespace.metadata.name),
    )
  }

  #key(parent: KubeObject): string {
    return `${parent.metadata.uid} ${parent.metadata.generation ?? 0}`
  }
}
