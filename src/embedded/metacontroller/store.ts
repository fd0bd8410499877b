import { createHash } from 'node:crypto'
import type { Clock } from '../../clock.js'
import { type Draft, deepEqual, deepFreeze, isObject, mergePatch, toWire } from './json.js'
import { managedFields } from './managed-fields.js'
import { metadataErrors } from './metadata-rules.js'
import { type KubeObject, keyOf, type Named, type ObjectRef, objectKey, refOf, timestamp } from './objects.js'
import { type Resource, Resources, resourcesOf } from './resources.js'
import { admit } from './schema.js'

export type ApiErrorReason = 'NotFound' | 'AlreadyExists' | 'Conflict' | 'Invalid' | 'Unavailable'

/** What the API server answers instead of doing what was asked. */
export class ApiError extends Error {
  readonly reason: ApiErrorReason

  constructor(reason: ApiErrorReason, message: string) {
    super(message)
    this.name = 'ApiError'
    this.reason = reason
  }
}

export interface Write {
  readonly at: number
  readonly verb: 'create' | 'update' | 'status' | 'delete'
  readonly kind: string
  readonly name: string
  readonly by: string
}

export type WatchEvent =
  | { readonly type: 'ADDED'; readonly object: KubeObject }
  | { readonly type: 'MODIFIED'; readonly object: KubeObject; readonly old: KubeObject }
  | { readonly type: 'DELETED'; readonly object: KubeObject }

export interface ObjectStoreOptions {
  readonly clock: Clock
  /** Of the uids (default 1). */
  readonly seed?: number
  /** CustomResourceDefinition manifests: which kinds exist, and their schemas. */
  readonly schemas?: readonly object[]
  /** Kinds without a manifest. Kinds in neither are taken up when the first object of theirs is written. */
  readonly resources?: readonly Resource[]
}

export interface DeleteOptions {
  /** Refuse when the object has another uid. */
  readonly uid?: string
  readonly propagation?: 'Background' | 'Foreground' | 'Orphan'
}

/** Who writes when nobody says so: a person. */
const PERSON = 'kubectl'
const COLLECTOR = 'garbage-collector'
const FOREGROUND = 'foregroundDeletion'
const ORPHAN = 'orphan'

/**
 * The object store of a Kubernetes API server: optimistic concurrency, generations, the status subresource,
 * finalizers, garbage collection through ownerReferences, CRD schemas, watches. Reads are always current.
 */
export class ObjectStore {
  readonly #clock: Clock
  readonly #resources: Resources
  readonly #kinds = new Map<string, Map<string, KubeObject>>()
  readonly #owners = new Map<string, KubeObject>()
  readonly #dependents = new Map<string, Map<string, ObjectRef>>()
  readonly #listeners = new Set<(event: WatchEvent) => void>()
  readonly #writes: Write[] = []
  readonly #seed: number
  readonly #births = new Map<string, number>()
  #version = 0
  #collecting = 0

  constructor(options: ObjectStoreOptions) {
    this.#clock = options.clock
    this.#seed = options.seed ?? 1
    this.#resources = new Resources(options.resources ?? [], options.schemas ?? [])
  }

  /** Writes that changed something, oldest first. */
  get writes(): readonly Write[] {
    return this.#writes
  }

  /** No garbage collection is about to happen. */
  idle(): boolean {
    return this.#collecting === 0
  }

  /** Installs a CRD while running. */
  install(crd: object): void {
    for (const resource of resourcesOf(crd)) this.#resources.add(resource)
  }

  /** Removes a kind and everything of it, as deleting its CRD does. */
  uninstall(apiVersion: string, resource: string): void {
    const found = this.#resources.find(apiVersion, resource)
    if (found === undefined) return
    for (const object of this.list(apiVersion, found.kind)) this.#remove(object, COLLECTOR)
    this.#resources.remove(apiVersion, resource)
  }

  /** Discovery: what serves a plural, if anything does. */
  resource(apiVersion: string, resource: string): Resource | undefined {
    return this.#resources.find(apiVersion, resource)
  }

  resourceOfKind(apiVersion: string, kind: string): Resource | undefined {
    return this.#resources.ofKind(apiVersion, kind)
  }

  get<T extends object = KubeObject>(named: Named): T | undefined {
    return this.#find(refOf(named)) as T | undefined
  }

  /** All objects of a kind, by namespace and name. */
  list<T extends object = KubeObject>(apiVersion: string, kind: string): T[] {
    const objects = [...(this.#kinds.get(`${apiVersion} ${kind}`)?.entries() ?? [])]
    return objects.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object as object as T)
  }

  /** Every object there is. */
  all(): KubeObject[] {
    return [...this.#kinds.values()].flatMap((objects) => [...objects.values()])
  }

  /** POST. Kinds with a status subresource lose the status they come with. */
  create(object: object, by = PERSON): KubeObject {
    const sent = this.#received(object)
    const metadata = sent['metadata'] as Draft
    if (metadata['resourceVersion'] !== undefined && metadata['resourceVersion'] !== '') {
      throw new ApiError('Invalid', 'resourceVersion should not be set on objects to be created')
    }
    const resource = this.#resourceFor(sent)
    if (resource.statusSubresource !== false) delete sent['status']
    return this.#insert(resource, sent, {}, by)
  }

  /** An object as if it had long been there: keeps its status and, where given, its uid and creationTimestamp. */
  seed(object: object, by = PERSON): KubeObject {
    const sent = this.#received(object)
    const { uid, creationTimestamp } = sent['metadata'] as Draft
    const kept: Draft = {}
    if (uid !== undefined) kept['uid'] = uid
    if (creationTimestamp !== undefined) kept['creationTimestamp'] = creationTimestamp
    return this.#insert(this.#resourceFor(sent), sent, kept, by)
  }

  /** PUT. With a resourceVersion only if that is still the current one. Status stays as it is. */
  update(object: object, by = PERSON): KubeObject {
    const sent = this.#received(object)
    const { resource, old } = this.#current(sent)
    const draft: Draft = { ...sent, metadata: systemMetadata(sent['metadata'] as Draft, old) }
    if (resource.statusSubresource !== false) {
      delete draft['status']
      if (old.status !== undefined) draft['status'] = old.status
    }
    return this.#replace(resource, draft, old, 'update', by)
  }

  /** PUT of the status subresource: the whole status is replaced, nothing else is. */
  replaceStatus(object: object, by = PERSON): KubeObject {
    const sent = this.#received(object)
    const { resource, old } = this.#current(sent)
    const draft: Draft = { ...old }
    delete draft['status']
    if (sent['status'] !== undefined) draft['status'] = sent['status']
    return this.#replace(resource, draft, old, 'status', by)
  }

  /** JSON merge patch of everything but status. */
  patch(named: Named, patch: object, by = PERSON): KubeObject {
    const ref = refOf(named)
    const old = this.#find(ref)
    if (old === undefined) throw notFound(ref.kind, keyOf(ref.name, ref.namespace))
    return this.update(mergePatch(old, patch) as object, by)
  }

  /** JSON merge patch of metadata (labels, annotations, finalizers, ownerReferences). */
  patchMetadata(named: Named, metadata: object, by = PERSON): KubeObject {
    return this.patch(named, { metadata }, by)
  }

  /** DELETE. An object with finalizers is only marked, and goes when the last of them does. */
  delete(named: Named, by = PERSON, options: DeleteOptions = {}): void {
    const ref = refOf(named)
    const old = this.#find(ref)
    if (old === undefined) throw notFound(ref.kind, keyOf(ref.name, ref.namespace))
    if (options.uid !== undefined && options.uid !== old.metadata.uid) {
      throw new ApiError(
        'Conflict',
        `Precondition failed: UID in precondition: ${options.uid}, in object: ${old.metadata.uid}`,
      )
    }
    const finalizers = [...(old.metadata.finalizers ?? [])]
    if (options.propagation === 'Foreground' && !finalizers.includes(FOREGROUND)) finalizers.push(FOREGROUND)
    if (options.propagation === 'Orphan' && !finalizers.includes(ORPHAN)) finalizers.push(ORPHAN)
    if (finalizers.length === 0) {
      this.#remove(old, by)
      return
    }
    if (old.metadata.deletionTimestamp !== undefined) return
    const resource = this.#resources.declare(ref.apiVersion, ref.kind, old.metadata.namespace !== undefined)
    const metadata: Draft = {
      ...old.metadata,
      finalizers,
      deletionTimestamp: timestamp(this.#clock.now()),
      deletionGracePeriodSeconds: 0,
    }
    if (resource.generation !== false) metadata['generation'] = (old.metadata.generation ?? 0) + 1
    const object = this.#put({ ...old, metadata }, old, 'delete', by)
    if (finalizers.includes(FOREGROUND) || finalizers.includes(ORPHAN)) this.#collectLater(object.metadata.uid)
  }

  /** Calls back on each change, in order, within the write. Returns a function that ends it. */
  watch(listener: (event: WatchEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #find(ref: ObjectRef): KubeObject | undefined {
    return this.#kinds.get(`${ref.apiVersion} ${ref.kind}`)?.get(keyOf(ref.name, ref.namespace))
  }

  #received(object: object): Draft {
    const sent = toWire(object) as Draft
    const metadata = sent['metadata']
    if (typeof sent['apiVersion'] !== 'string' || typeof sent['kind'] !== 'string') {
      throw new ApiError('Invalid', 'apiVersion and kind: Required value')
    }
    if (!isObject(metadata) || typeof metadata['name'] !== 'string' || metadata['name'] === '') {
      throw new ApiError('Invalid', `${sent['kind']}: metadata.name: Required value`)
    }
    return sent
  }

  /** The resource an object belongs to; its namespace is brought in line with the resource's scope. */
  #resourceFor(sent: Draft): Resource {
    const metadata = sent['metadata'] as Draft
    const inNamespace = metadata['namespace'] !== undefined && metadata['namespace'] !== ''
    const resource = this.#resources.declare(sent['apiVersion'] as string, sent['kind'] as string, inNamespace)
    if (resource.namespaced && !inNamespace)
      throw new ApiError('Invalid', `${resource.kind}: metadata.namespace: Required value`)
    if (!resource.namespaced) delete metadata['namespace']
    return resource
  }

  #current(sent: Draft): { resource: Resource; old: KubeObject } {
    const resource = this.#resourceFor(sent)
    const metadata = sent['metadata'] as Draft
    const key = keyOf(metadata['name'] as string, metadata['namespace'] as string | undefined)
    const old = this.#kinds.get(`${resource.apiVersion} ${resource.kind}`)?.get(key)
    if (old === undefined) throw notFound(resource.kind, key)
    for (const field of ['uid', 'resourceVersion'] as const) {
      if (metadata[field] !== undefined && metadata[field] !== old.metadata[field]) {
        throw new ApiError(
          'Conflict',
          `Operation cannot be fulfilled on ${resource.resource} "${key}": the object has been modified (${field})`,
        )
      }
    }
    return { resource, old }
  }

  #insert(resource: Resource, sent: Draft, kept: Draft, by: string): KubeObject {
    const draft = this.#admitted(resource, sent)
    const given = draft['metadata'] as Draft
    const key = keyOf(given['name'] as string, given['namespace'] as string | undefined)
    if (this.#kinds.get(`${resource.apiVersion} ${resource.kind}`)?.has(key) === true) {
      throw new ApiError('AlreadyExists', `${resource.resource} "${key}" already exists`)
    }
    const metadata: Draft = {
      ...given,
      creationTimestamp: timestamp(this.#clock.now()),
      uid: this.#uid(`${resource.apiVersion} ${resource.kind} ${key}`),
      ...kept,
    }
    for (const field of [
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
      'generation',
      'managedFields',
      'selfLink',
    ]) {
      delete metadata[field]
    }
    if (resource.generation !== false) metadata['generation'] = 1
    return this.#put({ ...draft, metadata }, undefined, 'create', by)
  }

  #replace(resource: Resource, sent: Draft, old: KubeObject, verb: 'update' | 'status', by: string): KubeObject {
    const draft = this.#admitted(resource, sent)
    const metadata = draft['metadata'] as Draft
    const before = old.metadata.finalizers ?? []
    const finalizers = (metadata['finalizers'] ?? []) as string[]
    const deleting = old.metadata.deletionTimestamp !== undefined
    if (deleting && finalizers.some((name) => !before.includes(name))) {
      throw new ApiError(
        'Invalid',
        'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted',
      )
    }
    if (deepEqual(draft, old)) return old
    const { metadata: _old, status: _oldStatus, ...oldRest } = old
    const { metadata: _new, status: _newStatus, ...newRest } = draft
    if (resource.generation !== false && !deepEqual(oldRest, newRest)) {
      metadata['generation'] = (old.metadata.generation ?? 0) + 1
    }
    const object = this.#put(draft, old, verb, by)
    if (!deleting || finalizers.length > 0) return object
    this.#remove(object, by)
    return object
  }

  /** Pruned, defaulted and valid, or an error. */
  #admitted(resource: Resource, sent: Draft): Draft {
    const metadata: Draft = { ...(sent['metadata'] as Draft) }
    for (const [field, value] of Object.entries(metadata)) {
      // The server's types leave these out when they are empty.
      if (
        value === null ||
        (isObject(value) && Object.keys(value).length === 0) ||
        (Array.isArray(value) && value.length === 0)
      ) {
        delete metadata[field]
      }
    }
    const errors = metadataErrors(metadata)
    const admitted = resource.schema === undefined ? { object: sent, errors: [] } : admit(resource.schema, sent)
    errors.push(...admitted.errors)
    if (errors.length > 0) {
      throw new ApiError('Invalid', `${resource.kind} "${metadata['name']}" is invalid: ${errors.join(', ')}`)
    }
    return { ...admitted.object, metadata }
  }

  #put(draft: Draft, old: KubeObject | undefined, verb: Write['verb'], by: string): KubeObject {
    const metadata: Draft = { ...(draft['metadata'] as Draft), resourceVersion: String(++this.#version) }
    const manager = by.split('/')[0] as string
    metadata['managedFields'] = managedFields(
      old,
      { ...draft, metadata },
      manager,
      timestamp(this.#clock.now()),
      verb === 'status',
    )
    const object = deepFreeze({ ...draft, metadata }) as unknown as KubeObject
    const kind = `${object.apiVersion} ${object.kind}`
    let objects = this.#kinds.get(kind)
    if (objects === undefined) {
      objects = new Map()
      this.#kinds.set(kind, objects)
    }
    objects.set(objectKey(object), object)
    this.#owners.set(object.metadata.uid, object)
    this.#index(old, object)
    this.#record(verb, object, by)
    this.#emit(old === undefined ? { type: 'ADDED', object } : { type: 'MODIFIED', object, old })
    return object
  }

  #remove(object: KubeObject, by: string): void {
    this.#kinds.get(`${object.apiVersion} ${object.kind}`)?.delete(objectKey(object))
    this.#owners.delete(object.metadata.uid)
    this.#index(object, undefined)
    this.#version++
    this.#record('delete', object, by)
    const { uid, ownerReferences } = object.metadata
    if (this.#dependents.has(uid)) this.#collectLater(uid)
    for (const owner of ownerReferences ?? []) {
      if (this.#owners.get(owner.uid)?.metadata.finalizers?.includes(FOREGROUND) === true) this.#collectLater(owner.uid)
    }
    this.#emit({ type: 'DELETED', object })
  }

  #record(verb: Write['verb'], object: KubeObject, by: string): void {
    this.#writes.push({ at: this.#clock.now(), verb, kind: object.kind, name: object.metadata.name, by })
  }

  #emit(event: WatchEvent): void {
    for (const listener of [...this.#listeners]) listener(event)
  }

  #index(old: KubeObject | undefined, object: KubeObject | undefined): void {
    const ref = refOf((object ?? old) as KubeObject)
    const id = `${ref.apiVersion} ${ref.kind} ${keyOf(ref.name, ref.namespace)}`
    for (const owner of old?.metadata.ownerReferences ?? []) {
      const dependents = this.#dependents.get(owner.uid)
      dependents?.delete(id)
      if (dependents?.size === 0) this.#dependents.delete(owner.uid)
    }
    for (const owner of object?.metadata.ownerReferences ?? []) {
      let dependents = this.#dependents.get(owner.uid)
      if (dependents === undefined) {
        dependents = new Map()
        this.#dependents.set(owner.uid, dependents)
      }
      dependents.set(id, ref)
      if (!this.#owners.has(owner.uid)) this.#collectLater(owner.uid)
    }
  }

  /** The garbage collector works behind the write that gives it something to do. */
  #collectLater(uid: string): void {
    this.#collecting++
    this.#clock.after(0, () => {
      this.#collecting--
      this.#collect(uid)
    })
  }

  #collect(uid: string): void {
    const owner = this.#owners.get(uid)
    const waits = owner?.metadata.deletionTimestamp !== undefined ? (owner.metadata.finalizers ?? []) : []
    if (owner !== undefined && !waits.includes(FOREGROUND) && !waits.includes(ORPHAN)) return
    for (const ref of [...(this.#dependents.get(uid)?.values() ?? [])]) {
      const dependent = this.#find(ref)
      if (dependent === undefined) continue
      const others = (dependent.metadata.ownerReferences ?? []).filter((reference) => reference.uid !== uid)
      const held = others.some((reference) => this.#owners.has(reference.uid))
      if (waits.includes(ORPHAN) || held) this.patchMetadata(ref, { ownerReferences: others }, COLLECTOR)
      else this.delete(ref, COLLECTOR, { propagation: waits.includes(FOREGROUND) ? 'Foreground' : 'Background' })
    }
    if (owner === undefined) return
    const blocked = [...(this.#dependents.get(uid)?.values() ?? [])].some((ref) =>
      this.#find(ref)?.metadata.ownerReferences?.some(
        (reference) => reference.uid === uid && reference.blockOwnerDeletion === true,
      ),
    )
    if (blocked) return
    const finalizers = waits.filter((name) => name !== FOREGROUND && name !== ORPHAN)
    this.patchMetadata(refOf(owner), { finalizers }, COLLECTOR)
  }

  /** Depends on the object's name and how often there was one, not on what else was created before it. */
  #uid(id: string): string {
    const birth = (this.#births.get(id) ?? 0) + 1
    this.#births.set(id, birth)
    const hex = createHash('sha256').update(`${this.#seed} ${id} ${birth}`).digest('hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  }
}

function notFound(kind: string, key: string): ApiError {
  return new ApiError('NotFound', `${kind} "${key}" not found`)
}

/** Metadata of a PUT: what the client may not set comes from the stored object. */
function systemMetadata(sent: Draft, old: KubeObject): Draft {
  const metadata: Draft = { ...sent }
  for (const field of [
    'uid',
    'resourceVersion',
    'generation',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'managedFields',
    'selfLink',
  ]) {
    const value = (old.metadata as unknown as Draft)[field]
    if (value === undefined) delete metadata[field]
    else metadata[field] = value
  }
  return metadata
}
